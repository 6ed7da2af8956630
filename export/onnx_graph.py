"""PyTorch module to ONNX bytes: one clean graph per file, the same weights giving the same bytes.

The dynamo exporter is used, at opset 18 and taken down to 17 here (`export.opset`). Of a rewritten 12-block ViT it
leaves 414 nodes where the deprecated TorchScript exporter leaves 847: constants, an Identity for each pair of equal
weights, and shape arithmetic around every attention, all of which TensorRT's parser has to fold. ONNX Runtime runs
both equally fast (ViT-B/16, one thread, batch 1: ratio of medians 1.00).
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import ICH_LABELS, INPUT_NAME, LOCATION_LABELS, OUTPUT_NAMES
from export.encoders import INPUT_SIZE
from export.memory import release
from export.model import DTViT
from export.opset import give_each_reader_its_weights, to_opset16, to_opset17

OPSET = 17
OPSET_WITHOUT_LAYER_NORM = 16
# The lowest that the dynamo exporter writes by itself.
EXPORTER_OPSET = 18
# More than one, so that no exporter takes the batch for a constant.
EXPORT_BATCH = 2
BATCH = "batch"


def export_fp32(module: nn.Module, channels: int, side: int = INPUT_SIZE) -> bytes:
    """`model.fp32.onnx` of a rewritten module.

    Args:
        module: `pixels` (N, channels, side, side) uint8 to the two logits.

    Returns:
        An ONNX model at opset 17: LayerNormalization as one op, dynamic batch, nothing outside the file.

    Raises:
        VerdictError: the exporter gave another opset, other names or types, or a graph that does not check.
    """
    pixels = torch.zeros(EXPORT_BATCH, channels, side, side, dtype=torch.uint8)
    data = _export(module, pixels)
    check_graph(data, OPSET, channels, side)
    return data


def decompose_layer_norm(data: bytes, channels: int, side: int | None = None) -> bytes:
    """`model.fp32-op16.onnx`, from the bytes of `model.fp32.onnx`: opset 16, LayerNormalization in parts.

    Raises:
        VerdictError: as `export_fp32`.
    """
    model = onnx.load_model_from_string(data)
    to_opset16(model)
    data = serialise(model)
    check_graph(data, OPSET_WITHOUT_LAYER_NORM, channels, side)
    return data


def plain_export(model: DTViT) -> bytes:
    """What a user's own export of DTViT gives: normalised float32 (N, 3, 224, 224) in, no rewrites.

    The other side of a comparison; no bundle holds it.
    """
    return _export(model.eval(), torch.zeros(EXPORT_BATCH, 3, INPUT_SIZE, INPUT_SIZE))


def check_graph(data: bytes, opset: int, channels: int, side: int | None = None, *, batch: str | int = BATCH) -> None:
    """Check a bundle's graph: opset, names, types, shapes, ONNX's full check, and that ONNX Runtime opens it.

    Args:
        side: of the input; None takes any square.
        batch: the name of its batch, or the number where it is fixed.

    Raises:
        VerdictError: with what was found and what was expected.
    """
    model = onnx.load_model_from_string(data)
    found_opset = {entry.domain: entry.version for entry in model.opset_import}
    if found_opset != {"": opset}:
        raise VerdictError(f"the exported graph's opset is {found_opset}, expected {opset} and no other domain")
    if side is None:
        side = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    square = [side, side]
    expected = [
        (INPUT_NAME, TensorProto.UINT8, [batch, channels, *square]),
        (OUTPUT_NAMES[0], TensorProto.FLOAT, [batch, len(ICH_LABELS)]),
        (OUTPUT_NAMES[1], TensorProto.FLOAT, [batch, len(LOCATION_LABELS)]),
    ]
    signatures = [_signature(value) for value in (*model.graph.input, *model.graph.output)]
    if signatures != expected:
        raise VerdictError(f"the exported graph has {signatures}, expected {expected}")
    try:
        _set_weights_aside(model)
        onnx.checker.check_model(model, full_check=True)
        del model
        release()
        open_session(data)
    except Exception as error:  # both libraries raise types of their own, some of them plain RuntimeError
        raise VerdictError(f"the exported graph is not usable: {' '.join(str(error).split())}") from error


def _set_weights_aside(model: ModelProto) -> None:
    """Make inputs of a model's large weights, in place: the checker copies a model several times, and reads none of
    their values (ONNX Runtime does, when it opens the file)."""
    small = []
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _LARGE:
            small.append(tensor)
        else:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    small_copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small_copies)


# Bytes of a weight above which the checker does without its values; shapes and constants are smaller.
_LARGE = 4096


def serialise(model: ModelProto) -> bytes:
    """A model's bytes, less what only a debugger reads (the maker's paths, stack traces, names of layers).

    The IR version is the lowest of the opset (8 at 16 and 17), so that TensorRT 8.5's parser reads it.
    """
    model.ir_version = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graph = model.graph
    graph.ClearField("value_info")
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _export(module: nn.Module, example: Tensor) -> bytes:
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=EXPORTER_OPSET,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": EXPORTER_OPSET}:
        raise VerdictError(f"the exporter gave opset {opsets}, expected {EXPORTER_OPSET} and no other domain")
    to_opset17(model)
    give_each_reader_its_weights(model)
    return serialise(model)


def _signature(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
    """A graph input's or output's name, element type and shape."""
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [d.dim_param or d.dim_value for d in tensor.shape.dim]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its warnings about itself off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

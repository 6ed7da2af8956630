"""The exported files: names, opset, dynamic batch, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import export
from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, PreprocessSpec
from export._torchvision import timm
from export.model import DTViT, normalise
from export.onnx_graph import check_graph, decompose_layer_norm, export_fp32, plain_export
from export.rewrites import rewrite
from export.untrained import untrained_model
from tests.support.encoders import THREE_WINDOWS, vit

Pixels = Callable[..., NDArray[np.uint8]]
SPEC = PreprocessSpec()


def small_vgg() -> DTViT:
    """timm's VGG with its 4,096-wide head on eight channels instead of 512."""
    model = untrained_model("test_vit")
    model.encoder = timm.models.vgg.VGG(cfg=[8, "M", 8, "M", 8, "M", 8, "M", 8, "M"], num_classes=0)
    model.ich_head, model.location_head = nn.Sequential(nn.Linear(4096, 2)), nn.Sequential(nn.Linear(4096, 3))
    return model.eval()


MODELS: dict[str, tuple[Callable[[], DTViT], PreprocessSpec]] = {
    "vit": (vit, SPEC),
    "vit with layer scale": (lambda: vit(init_values=0.5), SPEC),
    "vit, three windows": (vit, THREE_WINDOWS),
    "vit, average pooling": (lambda: vit(global_pool="avg"), SPEC),
    "resnet18": (lambda: untrained_model("resnet18"), SPEC),
    "vgg": (small_vgg, SPEC),
    "alexnet": (lambda: untrained_model("alexnet"), THREE_WINDOWS),
}


@pytest.mark.parametrize(("make", "spec"), MODELS.values(), ids=MODELS.keys())
def test_both_files_agree_with_pytorch_at_every_batch(
    make: Callable[[], DTViT], spec: PreprocessSpec, make_pixels: Pixels
) -> None:
    model = make()
    data = export_fp32(rewrite(model, spec).module, spec.channels)
    for graph in (data, decompose_layer_norm(data, spec.channels)):
        session = open_session(graph)
        for batch in (1, 3, 8):
            pixels = make_pixels(batch, spec.channels)
            with torch.no_grad():
                expected = model(normalise(torch.from_numpy(pixels), spec))
            logits = session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels})
            for a, b in zip(logits, expected, strict=True):
                np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def fp32() -> bytes:
    return export_fp32(rewrite(vit(), SPEC).module, 1)


def _operators(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_model_from_string(data).graph.node)


def test_layer_norm_is_one_operator_at_17_and_none_at_16(fp32: bytes) -> None:
    op16 = decompose_layer_norm(fp32, 1)
    before, after = _operators(fp32), _operators(op16)
    assert before["LayerNormalization"] == 5 and after["LayerNormalization"] == 0
    assert after["Sqrt"] == 5 and after["Pow"] == 0
    for data, opset in ((fp32, 17), (op16, 16)):
        model = onnx.load_model_from_string(data)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert model.ir_version == 8


def test_attention_stays_fused_but_in_the_last_block(fp32: bytes) -> None:
    graph = onnx.load_model_from_string(fp32).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    products = [shapes[n.input[1]] for n in graph.node if n.op_type == "MatMul" and n.input[1] in shapes]
    assert products.count((48, 144)) == 1
    assert products.count((48, 96)) == 1
    assert len(products) == 9


def test_forms_that_old_parsers_misread_are_gone(fp32: bytes) -> None:
    for node in onnx.load_model_from_string(fp32).graph.node:
        names = {attribute.name for attribute in node.attribute}
        assert not (node.op_type == "Shape" and names)
        assert "allowzero" not in names


def test_equal_weights_are_not_shared() -> None:
    model = vit()
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(value)
    graph = onnx.load_model_from_string(export_fp32(rewrite(model, SPEC).module, 1)).graph
    large = {t.name for t in graph.initializer if t.dims and t.data_type == onnx.TensorProto.FLOAT}
    readers = Counter(name for node in graph.node for name in node.input if name in large)
    assert set(readers.values()) == {1} and set(readers) == large


def test_no_path_of_this_machine_is_in_the_file(fp32: bytes) -> None:
    for data in (fp32, decompose_layer_norm(fp32, 1), plain_export(vit())):
        for path in (
            str(Path(export.__file__).parent),
            str(Path(timm.__file__).parent),
            ".py",
            "site-packages",
        ):
            assert path.encode() not in data
        model = onnx.load_model_from_string(data)
        assert not model.doc_string and not model.metadata_props
        for item in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
            assert not item.metadata_props and not item.doc_string


def test_same_weights_give_the_same_bytes(fp32: bytes) -> None:
    again = export_fp32(rewrite(vit(), SPEC).module, 1)
    assert again == fp32
    assert decompose_layer_norm(again, 1) == decompose_layer_norm(fp32, 1)


def test_plain_export_takes_normalised_floats(make_pixels: Pixels) -> None:
    model = vit()
    data = plain_export(model)
    x = normalise(torch.from_numpy(make_pixels(3)), SPEC)
    with torch.no_grad():
        expected = model(x)
    logits = open_session(data).run(list(OUTPUT_NAMES), {INPUT_NAME: x.numpy()})
    for a, b in zip(logits, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-5)


def _renamed(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "logits"


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _wrong_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def _unknown_input(model: onnx.ModelProto) -> None:
    model.graph.node[-1].input[0] = "nobody"


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (_renamed, "'logits'"),
        (_fixed_batch, "expected .*'batch'"),
        (_wrong_opset, "opset is .*18.* expected 17"),
        (_unknown_input, "not usable"),
    ],
    ids=["name", "batch", "opset", "graph"],
)
def test_graph_that_breaks_the_contract_is_refused(
    fp32: bytes, breakage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load_model_from_string(fp32)
    breakage(model)
    with pytest.raises(VerdictError, match=message):
        check_graph(model.SerializeToString(), 17, 1)


def test_exporter_says_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    export_fp32(rewrite(vit(), SPEC).module, 1)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_bias_beside_float16_scales_survives_onnx_runtimes_optimisation() -> None:
    half = TensorProto.FLOAT16
    scales = {"x_scale": np.float16(1e-3), "w_scale": np.full(2, 1e-5, np.float16)}  # their product underflows
    constants = {
        **scales,
        "y_scale": np.float16(0.01),
        "x_zero": np.int8(0),
        "w_zero": np.zeros(2, np.int8),
        "w": np.full((2, 1, 1, 1), 100, np.int8),
        "bias": np.array([0.5, 0.25], np.float16),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "bias"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "y_scale", "x_zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y_scale", "x_zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("x", half, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", half, [1, 2, 2, 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = np.full((1, 1, 2, 2), 0.1, np.float16)
    (y,) = open_session(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(y[0, :, 0, 0], [0.5, 0.25], atol=0.01)

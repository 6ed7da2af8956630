"""The graph without empty patches answers as the one at full length does, which answers as PyTorch does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from dtvit_edge import backends
from dtvit_edge.backend import Logits
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec
from export.encoders import create_encoder
from export.model import DTViT, normalise
from export.onnx_graph import export_fp32
from export.rewrites import CLASS_TOKEN, rewrite
from export.stem_vit import STEM_VIT
from export.trimming import trim_graph
from export.untrained import untrained_model
from tests.support.bordered import bordered
from tests.support.encoders import THREE_WINDOWS
from tests.support.small_bundle import SMALL_VIT

MOST = 2e-5  # float32's rounding of these logits is a tenth of it
SPEC = PreprocessSpec()
TRIMMED_VIT = f"trimmed_{SMALL_VIT}"
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(backends.availability()[name] is not None, reason="it is not here"))
    for name in ("onnxruntime", "openvino")
]


def model_of(encoder: str, **options: object) -> DTViT:
    """An untrained DTViT whose encoder has two blocks, as that of `trimmed_bundle`."""
    model = untrained_model(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.encoder = create_encoder(encoder, depth=2, **options)
    return model.eval()


def masked_graph(model: DTViT, spec: PreprocessSpec = SPEC) -> bytes:
    rewritten = rewrite(model, spec)
    assert rewritten.report[CLASS_TOKEN]["applied"]
    return export_fp32(rewritten.module, spec.channels, spec.crop)


def answers(name: str, data: bytes, pixels: NDArray[np.uint8], precision: str = "fp32") -> Logits:
    with backends.create(name, lambda: data, precision, threads=1) as backend:
        return backend.infer(pixels)


def apart(one: Logits, other: Logits) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in OUTPUT_NAMES)


@torch.no_grad()
def in_pytorch(model: DTViT, pixels: NDArray[np.uint8], spec: PreprocessSpec = SPEC) -> Logits:
    logits = model(normalise(torch.from_numpy(pixels), spec))
    return {name: values.numpy() for name, values in zip(OUTPUT_NAMES, logits, strict=True)}


@pytest.fixture(scope="module")
def model() -> DTViT:
    return model_of(TRIMMED_VIT)


@pytest.fixture(scope="module")
def masked(trimmed_bundle: Bundle) -> bytes:
    return trimmed_bundle.model_bytes("fp32")


@pytest.fixture(scope="module")
def trimmed(trimmed_bundle: Bundle) -> bytes:
    return trimmed_bundle.model_bytes("fp32-trimmed")


@pytest.mark.parametrize("name", BACKENDS)
def test_pytorch_the_graph_at_full_length_and_the_one_without_empty_patches_agree(
    name: str, model: DTViT, masked: bytes, trimmed: bytes
) -> None:
    pixels = bordered()
    expected = in_pytorch(model, pixels)
    assert all(np.isfinite(values).all() for values in expected.values())
    assert apart(answers(name, masked, pixels), expected) <= MOST
    assert apart(answers(name, trimmed, pixels), expected) <= MOST


@pytest.mark.parametrize("name", BACKENDS)
def test_a_slices_answer_does_not_depend_on_its_neighbours(name: str, trimmed: bytes) -> None:
    pixels = np.concatenate([bordered(), bordered()[:3]])
    with backends.create(name, lambda: trimmed, "fp32", threads=1) as backend:
        assert backend.batch == 1
        together = backend.infer(pixels)
        for row in range(len(pixels)):
            alone = backend.infer(pixels[row : row + 1])
            assert all(np.array_equal(together[head][row : row + 1], alone[head]) for head in OUTPUT_NAMES)


def test_the_batch_of_any_other_graph_stays(masked: bytes) -> None:
    with backends.create("onnxruntime", lambda: masked, "fp32") as backend:
        assert backend.batch == 8


@pytest.mark.parametrize(
    ("encoder", "options", "spec"),
    [
        (TRIMMED_VIT, {"pre_norm": True, "no_embed_class": True, "patch_size": 14, "reg_tokens": 3}, THREE_WINDOWS),
        (f"trimmed_{STEM_VIT}", {}, SPEC),
    ],
    ids=["all else that a plain ViT may have", "behind convolutions"],
)
def test_other_forms_of_it_are_trimmed_as_exactly(
    encoder: str, options: dict[str, object], spec: PreprocessSpec
) -> None:
    model = model_of(encoder, **options)
    pixels = bordered(spec.channels)
    data = trim_graph(masked_graph(model, spec), spec.channels)
    assert apart(answers("onnxruntime", data, pixels), in_pytorch(model, pixels, spec)) <= MOST


def test_the_masks_are_gone_and_the_weights_are_the_same(masked: bytes, trimmed: bytes) -> None:
    before, after = (onnx.load_model_from_string(data).graph for data in (masked, trimmed))
    operators = [node.op_type for node in after.node]
    assert operators.count("TopK") == 1 and "Pad" not in operators
    makers = {name: node.op_type for node in after.node for name in node.output}
    assert {makers[n.input[0]] for n in after.node if n.op_type == "Softmax"} == {"MatMul"}
    floats = [
        {t.name: numpy_helper.to_array(t).tobytes() for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
        for graph in (before, after)
    ]
    (gone,) = floats[0].keys() - floats[1].keys()
    assert np.frombuffer(floats[0][gone], np.float32) == [-30000.0]
    assert floats[1].items() <= floats[0].items()
    assert [v.type.tensor_type.shape.dim[0].dim_value for v in (*after.input, *after.output)] == [1, 1, 1]


def test_a_graph_without_a_mask_is_refused(two_block_bundle: Bundle) -> None:
    with pytest.raises(VerdictError, match="its input is no product of attention with a mask added"):
        trim_graph(two_block_bundle.model_bytes("fp32"), 1)


def test_a_graph_that_adds_another_mask_to_one_block_is_refused(masked: bytes) -> None:
    broken = onnx.load_model_from_string(masked)
    softmax = next(n for n in broken.graph.node if n.op_type == "Softmax")
    add = next(n for n in broken.graph.node if softmax.input[0] in n.output)
    broken.graph.initializer.append(numpy_helper.from_array(np.zeros(197, np.float32), "other"))
    add.input[1] = "other"
    with pytest.raises(VerdictError, match="adds 2 masks"):
        trim_graph(broken.SerializeToString(), 1)


def test_float16_masks_as_float32_does(model: DTViT, trimmed_bundle: Bundle) -> None:
    pixels = bordered()
    assert apart(logits_of(trimmed_bundle.model_bytes("fp16"), "fp16", pixels), in_pytorch(model, pixels)) <= 0.02

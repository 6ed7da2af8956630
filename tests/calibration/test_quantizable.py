from __future__ import annotations

from functools import cache

import onnx
import pytest

from calibration.quantizable import attention_ops, weight_ops
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import PreprocessSpec
from export.onnx_graph import export_fp32
from export.rewrites import rewrite
from export.untrained import untrained_model


@cache
def model_of(encoder: str) -> onnx.ModelProto:
    """Read-only."""
    return onnx.load_model_from_string(export_fp32(rewrite(untrained_model(encoder), PreprocessSpec()).module, 1))


def test_a_vits_ops_are_those_of_its_blocks(small_bundle: Bundle) -> None:
    ops = weight_ops(onnx.load_model_from_string(small_bundle.model_bytes("fp32")))
    names = [p.name for p in ops]
    assert len(names) == len(set(names)) == 5 * 4 + 5  # the last block is split
    assert names[:4] == ["blocks.0.qkv", "blocks.0.proj", "blocks.0.fc1", "blocks.0.fc2"]
    assert names[-5:] == ["blocks.5.q", "blocks.5.kv", "blocks.5.proj", "blocks.5.fc1", "blocks.5.fc2"]
    assert {p.operator for p in ops} == {"MatMul"}


def test_of_other_encoders_convolutions_are_quantised_but_the_first() -> None:
    model = model_of("test_resnet")
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    ops = weight_ops(model)
    assert [p.node for p in ops] == [n.name for n in convolutions[1:]]
    assert "layer1.0.conv1" in {p.name for p in ops}


def test_the_heads_never_are(small_bundle: Bundle) -> None:
    for model in (onnx.load_model_from_string(small_bundle.model_bytes("fp32")), model_of("test_resnet")):
        assert not [p for p in weight_ops(model) if "head" in p.weight]


def test_attentions_products_are_a_recipe_apart(small_bundle: Bundle) -> None:
    model = onnx.load_model_from_string(small_bundle.model_bytes("fp32"))
    ops = attention_ops(model)
    assert [p.name for p in ops[:3]] == ["blocks.0.scores", "blocks.0.values", "blocks.1.scores"]
    assert len(ops) == 2 * 6 and all(p.attention and len(p.activations) == 2 for p in ops)
    producers = {name: n.op_type for n in model.graph.node for name in n.output}
    assert {producers[p.activation] for p in ops[1::2]} == {"Softmax"}
    assert not {p.node for p in ops} & {p.node for p in weight_ops(model)}
    with pytest.raises(VerdictError, match="no attention"):
        attention_ops(model_of("test_resnet"))


def test_a_graph_without_ops_is_refused() -> None:
    model = onnx.ModelProto()
    with pytest.raises(VerdictError, match="no op with a weight"):
        weight_ops(model)

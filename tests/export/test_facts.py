"""Facts are those of the file."""

from __future__ import annotations

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.facts import attention_facts, graph_facts
from export.untrained import untrained_model
from tests.support.encoders import vit


def test_facts_of_a_graph_made_by_hand() -> None:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("MatMul", ["y", "z"], ["out"]),
        helper.make_node("Add", ["y", "y"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    report = {"some_rewrite": {"applied": False, "why": "no reason"}}
    facts = graph_facts(model.SerializeToString(), nn.Identity(), report)
    assert facts == {
        "opset": 17,
        "ir_version": 8,
        "operators": {"Add": 1, "Cast": 1, "MatMul": 2},
        "quantize_linear": 0,
        "dequantize_linear": 0,
        "inputs": {"pixels": {"dtype": "uint8", "shape": ["batch", 4]}},
        "outputs": {"out": {"dtype": "float32", "shape": ["batch", 3]}},
        "weight_products": {"MatMul": 1},
        "initializer_bytes": 48,
        "parameters": 12,
        "attention": None,
        "rewrites": report,
    }
    assert json.loads(json.dumps(facts)) == facts


def test_quantisation_is_counted() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.float32(1), "s")])
    facts = graph_facts(helper.make_model(graph).SerializeToString(), nn.Identity(), {})
    assert (facts["quantize_linear"], facts["dequantize_linear"]) == (1, 1)


def test_attention_is_described_for_vit_alone() -> None:
    assert attention_facts(vit(reg_tokens=4).encoder) == {
        "heads": 3,
        "head_size": 16,
        "tokens": 201,
        "blocks": 2,
    }
    assert attention_facts(untrained_model("test_resnet").encoder) is None

"""Opset 18 to 17 to 16, operator by operator, judged by ONNX's reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dtvit_edge.errors import VerdictError
from export.opset import give_each_reader_its_weights, to_opset16, to_opset17

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


def _model(nodes: list[onnx.NodeProto], opset: int, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _run(model: onnx.ModelProto) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(model).run(None, {"x": X})[0])


AXES = {"axes": np.array([-1, 1], np.int64)}
CASES = {
    "ReduceMean": ([helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)], AXES),
    "ReduceMax": ([helper.make_node("ReduceMax", ["x", "axes"], ["y"], noop_with_empty_axes=0)], AXES),
    "ReduceSum": ([helper.make_node("ReduceSum", ["x", "axes"], ["y"])], AXES),
    "ReduceMean over all": ([helper.make_node("ReduceMean", ["x"], ["y"])], {}),
    "Split": (
        [
            helper.make_node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2),
            helper.make_node("Sub", ["a", "b"], ["y"]),
        ],
        {},
    ),
    "Shape": ([helper.make_node("Shape", ["x"], ["y"], start=1, end=3)], {}),
    "Shape to the end": ([helper.make_node("Shape", ["x"], ["y"], start=-2)], {}),
    "Reshape": ([helper.make_node("Reshape", ["x", "s"], ["y"], allowzero=1)], {"s": np.array([-1, 6])}),
}


@pytest.mark.parametrize(("nodes", "constants"), CASES.values(), ids=CASES.keys())
def test_17_computes_what_18_did(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> None:
    model = _model(nodes, 18, constants)
    expected = _run(model)
    to_opset17(model)
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(expected.dtype), expected.shape)
    )
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    np.testing.assert_array_equal(_run(model), expected)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("axis", [-1, -2])
def test_decomposed_layer_norm_is_layer_norm(bias: bool, axis: int) -> None:
    shape = X.shape[axis:]
    rng = np.random.default_rng(1)
    constants = {"w": rng.normal(size=shape).astype(np.float32)}
    if bias:
        constants["b"] = rng.normal(size=shape).astype(np.float32)
    node = helper.make_node("LayerNormalization", ["x", *constants], ["y"], axis=axis, epsilon=0.1)
    model = _model([node], 17, constants)
    expected = _run(model)
    to_opset16(model)
    assert "LayerNormalization" not in {n.op_type for n in model.graph.node}
    np.testing.assert_allclose(_run(model), expected, atol=1e-6)


def test_layer_norm_counted_from_the_first_axis_is_refused() -> None:
    node = helper.make_node("LayerNormalization", ["x", "w"], ["y"], axis=2, name="norm")
    model = _model([node], 17, {"w": np.ones(4, np.float32)})
    with pytest.raises(VerdictError, match="norm: LayerNormalization over axis 2"):
        to_opset16(model)


def test_axes_that_are_computed_are_refused() -> None:
    model = _model([helper.make_node("ReduceMean", ["x", "computed"], ["y"], name="mean")], 18, {})
    with pytest.raises(VerdictError, match="mean: ReduceMean over axes that are not constant"):
        to_opset17(model)


def test_operator_without_a_way_down_does_not_pass_the_checker() -> None:
    nodes = [helper.make_node("Mish", ["x"], ["y"])]
    model = _model(nodes, 18, {})
    to_opset17(model)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model, full_check=True)


def test_weights_of_two_readers_become_two() -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["a"]), helper.make_node("Mul", ["a", "w"], ["y"])]
    model = _model(nodes, 17, {"w": np.arange(4, dtype=np.float32)})
    expected = _run(model)
    give_each_reader_its_weights(model)
    assert [t.name for t in model.graph.initializer] == ["w", "w.2"]
    np.testing.assert_array_equal(_run(model), expected)

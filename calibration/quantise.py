"""The two int8 files: Q/DQ on the input and the weight of each quantizable op, nothing on any output.

Inputs and weights are symmetric int8, as TensorRT wants them. An input that lies to one side of zero (behind GELU) is
shifted by a Sub in front of its QuantizeLinear, and what that takes away is in the op's bias: of the weights as they
are rounded, since most of such an input's values are zero, and zero has to give what it gave before. `quantizable` says
which ops. onnxruntime.quantization was used before: it knows neither shifts nor float8, and shares the rounded copy of
a tensor with readers that are not quantised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, version_converter

from calibration.quantizable import OUTPUT_AXIS, QuantizableOp
from calibration.ranges import LEVELS, Range, half_above
from calibration.weight_graph import WeightGraph, replace_nodes
from dtvit_edge.errors import VerdictError
from export.half import convert
from export.onnx_graph import check_graph, serialise

TYPED_OPSET = 19  # the first with float16 scales


def quantise(model: ModelProto, ops: Sequence[QuantizableOp], ranges: Mapping[str, Range]) -> bytes:
    """`model.int8.onnx`: symmetric int8, weights by output channel, float32 scales, everything else as it was.

    Args:
        model: the fp32 graph, smoothed or not; it is left as it is.
        ops: the ones to quantise.
        ranges: by activation; those of other tensors are ignored.

    Raises:
        VerdictError: a range that is missing, empty or not finite.
    """
    for op in ops:
        for name in op.activations:
            span = ranges.get(name)
            if span is None or not 0 < span.largest < np.inf:
                said = "missing" if span is None else f"{span.low:g} to {span.high:g}"
                raise VerdictError(f"{op.name}: the range of its input is {said}; expected one with finite ends, not 0")
    copy = ModelProto()
    copy.CopyFrom(model)
    writer = QdqWriter(copy)
    fixed = _not_shiftable(writer.graph, ops)
    for op in ops:
        for place, name in enumerate(op.activations):
            size, steps = ranges[name].grid(shiftable=name not in fixed)
            writer.quantise_input(op, place, Grid(size, np.array(0, np.int8), steps * size if steps else None))
        if not op.attention:
            integers, sizes, axis = int8_weight(op, writer.graph.weight(op.weight))
            size, steps = ranges[op.activation].grid(shiftable=op.activation not in fixed)
            if steps:
                rounded = integers.astype(np.float64) * _along(sizes, axis)
                writer.add_to_bias(op, steps * float(size) * rounded.sum(axis=1 - axis))
            writer.quantise_weight(op, integers, sizes, axis)
    return serialise(writer.finished())


def _not_shiftable(graph: WeightGraph, ops: Sequence[QuantizableOp]) -> set[str]:
    """Inputs of an op that could not give back what a shift takes: no bias, padding, or a product of activations."""
    return {name for op in ops for name in op.activations if op.attention or graph.bias(op) is None}


def int8_weight(op: QuantizableOp, values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32], int]:
    """A weight's integers, the size of a step by output channel, and the axis of that channel."""
    axis = OUTPUT_AXIS[op.operator]
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others)
    sizes = np.array([half_above(x / LEVELS) if x > 0 else 1 for x in largest.tolist()], np.float32)
    rounded = np.rint(values / _along(sizes, axis, values.ndim))
    return np.clip(rounded, -LEVELS, LEVELS).astype(np.int8), sizes, axis


def _along(sizes: NDArray[np.float32], axis: int, dimensions: int = 2) -> NDArray[np.float32]:
    return sizes.reshape([-1 if i == axis else 1 for i in range(dimensions)])


@dataclass(frozen=True)
class Grid:
    """What an input is rounded to: the size of a step, 0 in the type of the integers, and what is subtracted before."""

    size: np.float32
    zero: NDArray[Any]
    shift: np.float32 | None = None


class QdqWriter:
    """Puts Q/DQ in front of ops; a tensor that several of them read is quantised once."""

    def __init__(self, model: ModelProto) -> None:
        self.model, self.graph = model, WeightGraph(model)
        self._before: dict[str, list[NodeProto]] = {}
        self._dequantised: dict[str, str] = {}

    def quantise_input(self, op: QuantizableOp, place: int, grid: Grid) -> None:
        """Let an op read an activation rounded to a grid; every other reader keeps the float tensor."""
        name = op.activations[place]
        if name not in self._dequantised:
            nodes = self._before.setdefault(op.node, [])
            source = name
            if grid.shift is not None:
                shift = self.graph.add_weight(f"{name}_shift", np.asarray(grid.shift))
                source = f"{name}_shifted"
                nodes.append(helper.make_node("Sub", [name, shift], [source], name=f"node_{source}"))
            parameters = [
                self.graph.add_weight(f"{name}_scale", np.asarray(grid.size)),
                self.graph.add_weight(f"{name}_zero_point", grid.zero),
            ]
            integers, output = f"{name}_quantized", f"{name}_dequantized"
            nodes.append(helper.make_node("QuantizeLinear", [source, *parameters], [integers], name=f"node_{integers}"))
            nodes.append(helper.make_node("DequantizeLinear", [integers, *parameters], [output], name=f"node_{output}"))
            self._dequantised[name] = output
        self.graph.nodes[op.node].input[place] = self._dequantised[name]

    def quantise_weight(self, op: QuantizableOp, integers: NDArray[Any], sizes: NDArray[np.float32], axis: int) -> None:
        """Let an op read a weight that is stored as integers (or float8), with one scale or one an output channel."""
        name = op.weight
        inputs = [
            self.graph.add_weight(f"{name}_quantized", integers),
            self.graph.add_weight(f"{name}_scale", sizes),
            self.graph.add_weight(f"{name}_zero_point", np.zeros(sizes.shape, integers.dtype)),
        ]
        output = f"{name}_dequantized"
        node = helper.make_node("DequantizeLinear", inputs, [output], name=f"node_{output}")
        if sizes.ndim:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._before.setdefault(op.node, []).append(node)
        self.graph.nodes[op.node].input[1] = output

    def add_to_bias(self, op: QuantizableOp, values: NDArray[np.float64]) -> None:
        """Add to what is added to an op's output."""
        bias = self.graph.bias(op)
        assert bias is not None, "what has no bias is not shifted"
        self.graph.set_weight(bias, self.graph.weight(bias) + values)

    def finished(self) -> ModelProto:
        """The model, with every node in place and without the weights that were replaced."""
        replace_nodes(self.model, self._before)
        return self.model


def typed(int8: bytes, channels: int) -> bytes:
    """`model.int8-fp16.onnx`: the same integers and ranges with float16 scales, the rest as in `model.fp16.onnx`.

    Raises:
        VerdictError: a scale or weight that float16 cannot hold, or a graph that does not check.
    """
    model = version_converter.convert_version(onnx.load_model_from_string(int8), TYPED_OPSET)
    convert(model)
    data = serialise(model)
    check_graph(data, TYPED_OPSET, channels)
    return data


def placement(data: bytes) -> dict[str, int]:
    """How many ops have a weight or quantised activations, and how many of them are quantised."""
    model = onnx.load_model_from_string(data)
    dequantised = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    constants = {t.name for t in model.graph.initializer}
    ops = [n for n in model.graph.node if n.op_type in OUTPUT_AXIS and n.input[1] in constants | dequantised]
    quantised = [n for n in ops if set(n.input[:2]) <= dequantised]
    return {"ops": len(ops), "quantised": len(quantised)}

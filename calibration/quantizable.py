"""Which ops of a graph can be quantised: those that multiply an activation by a weight, inside the encoder.

Of a ViT these are the MatMuls of its blocks; of any other encoder its convolutions and linear layers but the first. The
patch embedding (or first convolution) and the heads keep their precision: 2- and 3-wide outputs must not be quantised.

That is the recipe `linear`. The recipe `attention` adds the two matrix products of each attention, where TensorRT's
fused INT8 attention wants Q/DQ: before the first (q and k), and before the second (softmax and v); behind the second
stand the output projection's. CPUs get slower by it, and every ViT becomes less exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from dtvit_edge.errors import VerdictError

# Operator -> axis of the output channel among the weight's; Gemm is written as (out, in).
OUTPUT_AXIS = {"MatMul": 1, "Gemm": 0, "Conv": 0}
RECIPES = ("linear", "attention")
_ENCODER = "model.encoder."


@dataclass(frozen=True)
class QuantizableOp:
    """One MatMul, Gemm or Conv of the graph that int8 may compute.

    Attributes:
        node: its name in the graph; operator: MatMul, Gemm or Conv.
        name: what a reader calls it, `blocks.3.fc1` or `layer1.0.conv1`.
        activation, weight: tensors it multiplies; in attention the second is an activation too.
    """

    node: str
    operator: str
    name: str
    activation: str
    weight: str
    attention: bool = False

    @property
    def activations(self) -> tuple[str, ...]:
        """Tensors whose ranges it needs."""
        return (self.activation, self.weight) if self.attention else (self.activation,)


def weight_ops(model: ModelProto) -> tuple[QuantizableOp, ...]:
    """The ops with a weight that can be quantised, in graph order.

    Raises:
        VerdictError: the graph has none.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in OUTPUT_AXIS and n.input[1] in weights]
    inside = [n for n in nodes if "_head." not in n.input[1]]
    ops = _of_blocks(model, inside) if any(n.op_type == "MatMul" for n in inside) else _of_layers(inside)
    if not ops:
        raise VerdictError("the graph has no op with a weight that could be quantised")
    return tuple(ops)


def attention_ops(model: ModelProto) -> tuple[QuantizableOp, ...]:
    """Attention's two matrix products of every block.

    They are named `blocks.3.scores` (q with k) and `blocks.3.values` (softmax with v).

    Raises:
        VerdictError: the graph has no attention.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "MatMul" and not weights & set(n.input)]
    after_softmax = {n.output[0] for n in model.graph.node if n.op_type == "Softmax"}
    if not nodes or [n.input[0] in after_softmax for n in nodes] != [False, True] * (len(nodes) // 2):
        raise VerdictError("the graph has no attention whose matrix products could be quantised")
    return tuple(
        QuantizableOp(n.name, n.op_type, f"blocks.{i // 2}.{('scores', 'values')[i % 2]}", n.input[0], n.input[1], True)
        for i, n in enumerate(nodes)
    )


def _of_layers(nodes: list[NodeProto]) -> list[QuantizableOp]:
    return [_op(n, n.input[1].removeprefix(_ENCODER).removesuffix(".weight")) for n in nodes[1:]]


def _of_blocks(model: ModelProto, nodes: list[NodeProto]) -> list[QuantizableOp]:
    """Names by place: a block is norm, attention, norm, MLP. Weights' own names are lost in the export (transposed)."""
    wanted = {n.name for n in nodes if n.op_type == "MatMul"}
    ops: list[QuantizableOp] = []
    norms = 0
    part: list[NodeProto] = []

    def close() -> None:
        block, mlp = divmod(norms - 1, 2)
        attention = ["qkv", "proj"] if len(part) == 2 else ["q", "kv", "proj"]
        names = ["fc1", "fc2"] if mlp else attention
        if len(part) != len(names):
            names = [f"matmul{i}" for i in range(len(part))]
        ops.extend(_op(n, f"blocks.{block}.{name}") for n, name in zip(part, names, strict=True))

    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            close()
            norms += 1
            part = []
        elif node.name in wanted:
            part.append(node)
    close()
    return ops


def _op(node: NodeProto, name: str) -> QuantizableOp:
    return QuantizableOp(node.name, node.op_type, name, node.input[0], node.input[1])

"""Which products of a graph are quantised: those of an activation with a weight, inside the encoder.

Of a ViT the MatMuls of its blocks; of any other encoder its convolutions and linear layers but the first. The patch
embedding (or first convolution) and the heads keep their precision: 2- and 3-wide outputs must not be quantised.

That is the recipe `products`. The recipe `attention` adds attention's own two products, where TensorRT's fused INT8
attention wants Q/DQ: before the first (q and k), and before the second (softmax and v); behind the second stand the
output projection's. CPUs get slower by it, and every ViT less exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from dtvit_edge.errors import VerdictError

# Operator -> axis of the output channel among the weight's; Gemm is written as (out, in).
OUTPUT_AXIS = {"MatMul": 1, "Gemm": 0, "Conv": 0}
RECIPES = ("products", "attention")
_ENCODER = "model.encoder."


@dataclass(frozen=True)
class Product:
    """One product.

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


def weight_products(model: ModelProto) -> tuple[Product, ...]:
    """The products to quantise, in graph order.

    Raises:
        VerdictError: the graph has none.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in OUTPUT_AXIS and n.input[1] in weights]
    inside = [n for n in nodes if "_head." not in n.input[1]]
    found = _of_blocks(model, inside) if any(n.op_type == "MatMul" for n in inside) else _of_layers(inside)
    if not found:
        raise VerdictError("the graph has no product with a weight that could be quantised")
    return tuple(found)


def attention_products(model: ModelProto) -> tuple[Product, ...]:
    """Attention's two products of every block, `blocks.3.scores` (q with k) and `blocks.3.values` (softmax with v).

    Raises:
        VerdictError: the graph has no attention.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "MatMul" and not weights & set(n.input)]
    after_softmax = {n.output[0] for n in model.graph.node if n.op_type == "Softmax"}
    if not nodes or [n.input[0] in after_softmax for n in nodes] != [False, True] * (len(nodes) // 2):
        raise VerdictError("the graph has no attention whose products could be quantised")
    return tuple(
        Product(n.name, n.op_type, f"blocks.{i // 2}.{('scores', 'values')[i % 2]}", n.input[0], n.input[1], True)
        for i, n in enumerate(nodes)
    )


def _of_layers(nodes: list[NodeProto]) -> list[Product]:
    return [_product(n, n.input[1].removeprefix(_ENCODER).removesuffix(".weight")) for n in nodes[1:]]


def _of_blocks(model: ModelProto, nodes: list[NodeProto]) -> list[Product]:
    """Names by place: a block is norm, attention, norm, MLP. Weights' own names are lost in the export (transposed)."""
    wanted = {n.name for n in nodes if n.op_type == "MatMul"}
    products: list[Product] = []
    norms = 0
    part: list[NodeProto] = []

    def close() -> None:
        block, mlp = divmod(norms - 1, 2)
        attention = ["qkv", "proj"] if len(part) == 2 else ["q", "kv", "proj"]
        names = ["fc1", "fc2"] if mlp else attention
        if len(part) != len(names):
            names = [f"product{i}" for i in range(len(part))]
        products.extend(_product(n, f"blocks.{block}.{name}") for n, name in zip(part, names, strict=True))

    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            close()
            norms += 1
            part = []
        elif node.name in wanted:
            part.append(node)
    close()
    return products


def _product(node: NodeProto, name: str) -> Product:
    return Product(node.name, node.op_type, name, node.input[0], node.input[1])

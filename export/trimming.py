"""A graph of a `trimmed_` ViT at full length to one that does not compute empty patches: `model.*-trimmed.onnx`.

The graph at full length computes every token and adds a mask to the scores of attention, so that nothing reads an empty
patch's token (`export.trimmed`). Here the others are gathered behind the position embedding, as many as there are, and
the masks go: the same function, in which sums have fewer zeros. How many there are differs from slice to slice, so that
the batch is 1. Weights, and where there are any the integers and ranges of int8, are those of the graph it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dtvit_edge.errors import VerdictError
from export.onnx_graph import OPSET, check_graph, serialise

# Names of what is put in begin with this.
_OURS = "kept"


def trim_graph(data: bytes, channels: int, side: int | None = None) -> bytes:
    """`model.fp32-trimmed.onnx` of the bytes of `model.fp32.onnx`, and the same of int8.

    Returns:
        An ONNX model of the same opset, inputs and outputs, with a batch of 1.

    Raises:
        VerdictError: the graph has no mask of empty patches, or not where it is expected, or the result does not check.
    """
    model = onnx.load_model_from_string(data)
    _Trimming(model).run()
    trimmed = serialise(model)
    check_graph(trimmed, OPSET, channels, side, batch=1)
    return trimmed


class _Trimming:
    """One model's surgery, in place."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.constants = {t.name: t for t in self.graph.initializer}

    def run(self) -> None:
        mask, sums = self._mask()
        behind = list(self._behind(mask))
        empty = _only(behind, "LessOrEqual", "the comparison that says which patches are empty")
        pooled = _only(behind, "MaxPool", "the largest value of each patch")
        # Pad's second input says how many values are put before each axis, then behind each: the tokens before patches.
        pads = self._constant(_only(behind, "Pad", "the mask of the tokens before the patches").input[1])
        prefix = int(pads[len(pads) // 2 - 1])
        sides = helper.get_node_attr_value(pooled, "kernel_shape")
        pixels = [d.dim_value for d in self.graph.input[0].type.tensor_type.shape.dim]
        patches = (pixels[2] // sides[0]) * (pixels[3] // sides[1])
        norm = next((n for n in self.graph.node if n.op_type == "LayerNormalization"), None)
        if norm is None:
            raise VerdictError("the graph has no LayerNormalization, by which its tokens are found")
        tokens = norm.input[0]
        for softmax, scores in sums:
            softmax.input[0] = scores
        # From here on nodes are copied: those that were found above are no more part of the graph.
        gathered = f"{_OURS}_tokens"
        nodes = self._choice(empty.output[0], tokens, gathered, prefix, patches)
        self._put_behind((empty.output[0], tokens), nodes)
        self._any_length(prefix + patches)
        for value in (*self.graph.input, *self.graph.output):
            batch = value.type.tensor_type.shape.dim[0]
            batch.Clear()
            batch.dim_value = 1
        self._drop_the_dead()

    def _mask(self) -> tuple[str, list[tuple[NodeProto, str]]]:
        """The tensor that every softmax's scores get added, and each softmax with its scores before that."""
        masks, sums = set(), []
        for softmax in (n for n in self.graph.node if n.op_type == "Softmax"):
            add = self.maker.get(softmax.input[0])
            products = [n for n in add.input if self._is_product(n)] if add is not None and add.op_type == "Add" else []
            if add is None or len(products) != 1:
                raise VerdictError(f"{softmax.name}: its input is no product of attention with a mask added")
            masks.add(next(name for name in add.input if name != products[0]))
            sums.append((softmax, products[0]))
        if len(masks) != 1:
            raise VerdictError(f"the graph adds {len(masks)} masks to the scores of attention, expected one")
        return masks.pop(), sums

    def _is_product(self, name: str) -> bool:
        return name in self.maker and self.maker[name].op_type == "MatMul"

    def _behind(self, name: str) -> Iterator[NodeProto]:
        """Every node that a tensor comes from, each once."""
        seen, open_ = set(), [name]
        while open_:
            node = self.maker.get(open_.pop())
            if node is not None and id(node) not in seen:
                seen.add(id(node))
                yield node
                open_ += node.input

    def _choice(self, empty: str, tokens: str, gathered: str, prefix: int, patches: int) -> list[NodeProto]:
        """Nodes that gather the tokens before the patches and those of patches that are not empty.

        All is done in integers, which no backend's hint makes inexact. The class token's value is the largest, so that
        it stays the first; the order of the others changes nothing.
        """

        def node(operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> NodeProto:
            full = f"{_OURS}_{name}"
            return helper.make_node(operator, inputs, [full], name=f"node_{full}", **attributes)

        flat = self._add_constant("flat", [patches])
        before = self._add_constant("before", [2, *[1] * (prefix - 1)])
        count = self._add_constant("prefix", [prefix])
        top = node("TopK", [f"{_OURS}_values", f"{_OURS}_number"], "sorted", axis=0, largest=1, sorted=1)
        top.output.append(f"{_OURS}_places")
        return [
            node("Not", [empty], "patches"),
            node("Cast", [f"{_OURS}_patches"], "ones", to=TensorProto.INT64),
            node("Reshape", [f"{_OURS}_ones", flat], "row"),
            node("ReduceSum", [f"{_OURS}_row"], "count", keepdims=1),
            node("Add", [f"{_OURS}_count", count], "number"),
            node("Concat", [before, f"{_OURS}_row"], "values", axis=0),
            top,
            helper.make_node("Gather", [tokens, f"{_OURS}_places"], [gathered], name=f"node_{gathered}", axis=1),
        ]

    def _put_behind(self, sources: Sequence[str], nodes: list[NodeProto]) -> None:
        """Put nodes in behind what they read; who read the last of it, the tokens, reads the last node's output."""
        tokens, gathered = sources[-1], nodes[-1].output[0]
        made = [place for place, node in enumerate(self.graph.node) if set(node.output) & set(sources)]
        at = max(made) + 1
        readers = [place for place, node in enumerate(self.graph.node) if tokens in node.input]
        if not readers or min(readers) < at:
            raise VerdictError("the tokens are read before it is known which patches are empty")
        for place in readers:
            node = self.graph.node[place]
            node.input[:] = [gathered if name == tokens else name for name in node.input]
        old = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*old[:at], *nodes, *old[at:]])

    def _any_length(self, length: int) -> None:
        """Let every Reshape behind the choice take any number of tokens."""
        reached = {f"{_OURS}_tokens"}
        for node in self.graph.node:
            if not reached & set(node.input):
                continue
            reached |= set(node.output)
            if node.op_type != "Reshape":
                continue
            shape = self._constant(node.input[1]).tolist()
            if length in shape:
                if len(shape) < 3 or shape[:2] != [-1, length]:
                    raise VerdictError(f"{node.name}: the tokens are not at the second place of its shape {shape}")
                node.input[1] = self._add_constant("_".join(map(str, ("any", *shape[2:]))), [1, -1, *shape[2:]])

    def _constant(self, name: str) -> np.ndarray[Any, Any]:
        if name not in self.constants:
            raise VerdictError(f"{name} is no constant of the graph")
        values: np.ndarray[Any, Any] = numpy_helper.to_array(self.constants[name])
        return values

    def _add_constant(self, name: str, values: Sequence[int]) -> str:
        """A constant of integers, made once."""
        full = f"{_OURS}_{name}"
        if full not in self.constants:
            self.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), full))
            self.constants[full] = self.graph.initializer[-1]
        return full

    def _drop_the_dead(self) -> None:
        """Leave out nodes and constants from which no output comes."""
        wanted = {value.name for value in self.graph.output}
        alive = []
        for node in reversed(self.graph.node):
            if wanted & set(node.output):
                wanted |= set(node.input)
                alive.append(node)
        nodes = list(reversed(alive))
        constants = [tensor for tensor in self.graph.initializer if tensor.name in wanted]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(constants)


def _only(nodes: Sequence[NodeProto], operator: str, what: str) -> NodeProto:
    """The one node of an operator.

    Raises:
        VerdictError: there is none, or several.
    """
    those = [node for node in nodes if node.op_type == operator]
    if len(those) != 1:
        raise VerdictError(f"the mask of attention comes from {len(those)} {operator}, expected one: {what}")
    return those[0]

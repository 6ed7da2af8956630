"""A graph's weights by name, and who reads what: what folding and quantising ask of an ONNX model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from calibration.quantizable import QuantizableOp

# Operators that move tokens about and leave channels, the last axis, alone.
_KEEPS_CHANNELS = frozenset({"Slice", "Gather", "Identity"})


class WeightGraph:
    """Weights can be changed and added in place; readers and producers are those of the model as it was given."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.tensors = {t.name: t for t in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.nodes = {node.name: node for node in model.graph.node}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def weight(self, name: str) -> NDArray[np.float32]:
        """A weight's values; they are not to be written to."""
        values: NDArray[np.float32] = numpy_helper.to_array(self.tensors[name])
        return values

    def set_weight(self, name: str, values: NDArray[Any]) -> None:
        """Replace a float32 weight."""
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))

    def add_weight(self, name: str, values: NDArray[Any]) -> str:
        """Add a tensor in the type that it has, and return its name."""
        tensor = self.model.graph.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        self.tensors[name] = tensor
        return name

    def source(self, name: str) -> str:
        """The tensor that this one is a part of, channels untouched."""
        node = self.producer.get(name)
        while node is not None and node.op_type in _KEEPS_CHANNELS:
            name = node.input[0]
            node = self.producer.get(name)
        return name

    def readers_of(self, name: str) -> set[str]:
        """Nodes that read a tensor or a part of it."""
        readers: set[str] = set()
        for node in self.readers[name]:
            readers |= self.readers_of(node.output[0]) if node.op_type in _KEEPS_CHANNELS else {node.name}
        return readers

    def bias(self, op: QuantizableOp) -> str | None:
        """The vector that is added to each output of a MatMul or Gemm, by output channel; None where there is none."""
        node = self.nodes[op.node]
        if op.operator == "Gemm":
            name = node.input[2] if len(node.input) > 2 else None
            scaled = any(a.name in ("alpha", "beta") and a.f != 1 for a in node.attribute)
            return None if scaled or not self._is_vector(name) else name
        for reader in self.readers[node.output[0]]:
            if op.operator == "MatMul" and reader.op_type == "Add":
                return next((name for name in reader.input if self._is_vector(name)), None)
        return None

    def _is_vector(self, name: str | None) -> bool:
        return name in self.tensors and len(self.tensors[name].dims) == 1


def replace_nodes(model: ModelProto, before: Mapping[str, list[NodeProto]]) -> None:
    """Put new nodes in front of those that are named, in place, and drop the weights that nobody reads any more."""
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += before.get(node.name, [])
        copy = NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    unused = [i for i, tensor in enumerate(model.graph.initializer) if tensor.name not in used]
    for i in reversed(unused):
        del model.graph.initializer[i]

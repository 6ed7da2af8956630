"""The typed float16 graph, from the fp32 one: types are in the graph, since TensorRT 11 has no precision flags.

Everything that is float becomes float16, except LayerNormalization, Softmax and the last layer of each head, which stay
float32 between two Casts; the outputs are float32. A decomposed LayerNormalization in float16 squares its input and
overflows: ViT-B falls from 85 to 19 % on ImageNet so. Bytes up to 255 are exact in float16.

onnxruntime.transformers' converter was looked at: it leaves nodes unsorted, clips weights that overflow without a word,
and rounds the float32 outputs through float16.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import OUTPUT_NAMES
from export.onnx_graph import OPSET, check_graph, serialise

FLOAT32_OPERATORS = frozenset({"LayerNormalization", "Softmax"})
_FLOATS = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
# Operators whose output is no float although an input is.
_TO_INTEGER = frozenset({"QuantizeLinear", "Shape", "LessOrEqual"})


def export_fp16(data: bytes, channels: int, side: int | None = None) -> bytes:
    """`model.fp16.onnx`, from the bytes of `model.fp32.onnx`: typed, opset 17, the same inputs and outputs.

    Raises:
        VerdictError: a weight that float16 cannot hold, or as `export.onnx_graph.check_graph`.
    """
    model = onnx.load_model_from_string(data)
    convert(model)
    half = serialise(model)
    check_graph(half, OPSET, channels, side)
    return half


def convert(model: ModelProto) -> None:
    """Retype a float32 model in place; the nodes stay in order, each Cast right before its first reader.

    Raises:
        VerdictError: a weight that float16 cannot hold.
    """
    _Conversion(model).run()


class _Conversion:
    """One pass in graph order that knows every tensor's type so far."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.weights = {t.name: t for t in model.graph.initializer}
        self.types = {t.name: t.data_type for t in model.graph.initializer}
        self.types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        self.nodes: list[NodeProto] = []
        self.made: dict[tuple[str, TensorProto.DataType], str] = {}

    def run(self) -> None:
        for node in list(self.graph.node):
            half_node = NodeProto()
            half_node.CopyFrom(node)
            self._retype(half_node)
            self.nodes.append(half_node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [t for t in self.weights.values() if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _retype(self, node: NodeProto) -> None:
        if node.op_type == "Cast":
            attribute = node.attribute[0]
            if attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            self.types[node.output[0]] = attribute.i
            return
        last = bool(set(node.output) & set(OUTPUT_NAMES))
        wanted = TensorProto.FLOAT if last or node.op_type in FLOAT32_OPERATORS else TensorProto.FLOAT16
        is_float = False
        for place, name in enumerate(node.input):
            if self.types.get(name) in _FLOATS:
                is_float = True
                node.input[place] = self._as(name, wanted)
        produced = TensorProto.INT8 if node.op_type == "QuantizeLinear" else TensorProto.INT64
        if is_float and node.op_type not in _TO_INTEGER:
            produced = wanted
        for name in node.output:
            self.types[name] = produced

    def _as(self, name: str, wanted: TensorProto.DataType) -> str:
        """The tensor in the wanted type: itself, a converted weight, or the output of a Cast made once."""
        if self.types[name] == wanted:
            return name
        if (name, wanted) not in self.made:
            new = f"{name}_{_FLOATS[wanted]}"
            if name in self.weights:
                self.weights[new] = self._converted(name, new)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [new], name=f"{new}_cast", to=wanted))
            self.types[new] = wanted
            self.made[name, wanted] = new
        return self.made[name, wanted]

    def _converted(self, name: str, new: str) -> TensorProto:
        values = numpy_helper.to_array(self.weights[name])
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise VerdictError(f"{name} has values up to {np.abs(values).max():g}; float16 ends at 65504")
        return numpy_helper.from_array(half, new)

"""What an ONNX file may hold, looked for in its bytes before any library reads them.

The runtime has no onnx package, and the libraries that run a graph run whatever it says: a Loop without end, code of
other domains, weights from other files. So the wire format of protobuf is walked here as deep as those can lie (model,
graph, nodes, attributes, tensors), with the field numbers of `onnx.proto` 1.23. A field that no graph of a bundle needs
is refused, not passed over. Time and memory are bounded by the number of fields, whatever the file's size: what is not
walked is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import Any

from dtvit_edge.bundle.operators import DOMAINS, OPERATORS
from dtvit_edge.errors import BundleError

# A ViT-Large has about 30,000; a million take a second.
MOST_FIELDS = 500_000

# Field numbers by message: those that are read here, and those that may be there besides.
_MODEL = {"graph": 7, "opset_import": 8}
_MODEL_OTHERS = frozenset({1, 2, 3, 4, 5, 6, 14})  # versions, producer, domain, doc_string, metadata_props
_GRAPH = {"node": 1, "initializer": 5}
_GRAPH_OTHERS = frozenset({2, 10, 11, 12, 13, 16})  # name, doc_string, input, output, value_info, metadata_props
_NODE = {"op_type": 4, "attribute": 5, "domain": 7}
_NODE_OTHERS = frozenset({1, 2, 3, 6, 9})  # input, output, name, doc_string, metadata_props
_ATTRIBUTE = {"t": 5}
_ATTRIBUTE_OTHERS = frozenset({1, 2, 3, 4, 7, 8, 9, 13, 20})  # name, f, i, s, floats, ints, strings, doc_string, type
_TENSOR = {"dims": 1, "data_type": 2, "raw_data": 9, "data_location": 14}
_TENSOR_OTHERS = frozenset({4, 5, 7, 8, 10, 11, 12, 16})  # the typed data, name, doc_string, metadata_props
_OPSET = {"domain": 1}
_OPSET_OTHERS = frozenset({2})
# Fields that are refused, in words; any other is refused by its number.
_REFUSED = {
    ("model", 20): "training information",
    ("model", 25): "functions",
    ("graph", 14): "quantisation annotations",
    ("graph", 15): "sparse weights",
    ("attribute", 6): "a graph inside an operator",
    ("attribute", 11): "graphs inside an operator",
    ("attribute", 21): "a function's attribute",
    ("tensor", 3): "weights in segments",
    ("tensor", 6): "texts as weights",
    ("tensor", 13): "weights in another file",
}
# Bytes of an element by `TensorProto.DataType`, of those that weights may have; two 4-bit integers share one.
_BYTES = {1: 4.0, 2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0, 6: 4.0, 7: 8.0, 9: 1.0, 10: 2.0, 11: 8.0, 12: 4.0, 13: 8.0, 16: 2.0}
_BYTES |= dict.fromkeys((17, 18, 19, 20), 1.0) | dict.fromkeys((21, 22), 0.5)
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def check_graph(data: bytes | mmap, what: str) -> None:
    """Refuse an ONNX file that holds more than standard operators and their weights.

    Args:
        data: the file's bytes.
        what: the file, for the message.

    Raises:
        BundleError: with what it holds.
    """
    try:
        _Scan(data).model()
    except _Refusal as refusal:
        raise BundleError(f"{what}: {refusal}; a bundle's graphs hold standard ONNX operators alone") from None


class _Refusal(Exception):
    pass


class _Scan:
    """One walk through a file."""

    def __init__(self, data: bytes | mmap) -> None:
        self.data = memoryview(data)
        self.left = MOST_FIELDS

    def model(self) -> None:
        graphs = 0
        for number, value in self.fields(0, len(self.data), "model", _MODEL, _MODEL_OTHERS):
            if number == _MODEL["graph"]:
                graphs += 1
                self.graph(*value)
            elif number == _MODEL["opset_import"]:
                self.opset(*value)
        if graphs != 1:  # protobuf would merge two of them
            raise _Refusal(f"it holds {graphs} graphs, expected one")

    def opset(self, start: int, end: int) -> None:
        for number, value in self.fields(start, end, "operator set", _OPSET, _OPSET_OTHERS):
            if number == _OPSET["domain"] and self.text(value) not in DOMAINS:
                raise _Refusal(f"it imports operators of the domain {self.text(value)!r}")

    def graph(self, start: int, end: int) -> None:
        for number, value in self.fields(start, end, "graph", _GRAPH, _GRAPH_OTHERS):
            if number == _GRAPH["node"]:
                self.node(*value)
            elif number == _GRAPH["initializer"]:
                self.tensor(*value)

    def node(self, start: int, end: int) -> None:
        # The last of a field that is there twice is what protobuf takes, so each is looked at.
        operators = 0
        for number, value in self.fields(start, end, "operator", _NODE, _NODE_OTHERS):
            if number == _NODE["op_type"]:
                operators += 1
                if self.text(value) not in OPERATORS:
                    raise _Refusal(f"it holds the operator {self.text(value)!r}")
            elif number == _NODE["domain"] and self.text(value) not in DOMAINS:
                raise _Refusal(f"it holds an operator of the domain {self.text(value)!r}")
            elif number == _NODE["attribute"]:
                self.attribute(*value)
        if not operators:
            raise _Refusal("it holds an operator without a name")

    def attribute(self, start: int, end: int) -> None:
        for number, value in self.fields(start, end, "attribute", _ATTRIBUTE, _ATTRIBUTE_OTHERS):
            if number == _ATTRIBUTE["t"]:
                self.tensor(*value)

    def tensor(self, start: int, end: int) -> None:
        """Weights that lie in the file, as many bytes as their shape says."""
        elements, kind, raw = 1, 0, None
        for number, value in self.fields(start, end, "tensor", _TENSOR, _TENSOR_OTHERS):
            if number == _TENSOR["dims"]:
                for size in self.packed(value):
                    elements *= size
                    if elements > len(self.data):  # two 4-bit integers a byte are the most that there are of any
                        elements = min(elements, 4 * len(self.data))
            elif number == _TENSOR["data_type"]:
                kind = value if isinstance(value, int) else -1
                if kind not in _BYTES:
                    raise _Refusal(f"it holds weights of the type {kind}")
            elif number == _TENSOR["raw_data"]:
                raw = value[1] - value[0]
            elif value != 0:
                raise _Refusal("it takes weights from another file")
        if raw is not None and int(elements * _BYTES.get(kind, 0.0) + 0.5) != raw:
            raise _Refusal("it holds weights with more or fewer bytes than their shape has")

    def packed(self, value: Any) -> Iterator[int]:
        """The numbers of a repeated field, which is one number or many of them one after the other."""
        if isinstance(value, int):
            yield value
            return
        at, end = value
        while at < end:
            number, at = self.varint(at, end)
            self.count()
            yield number

    def text(self, value: Any) -> str:
        start, end = value
        return bytes(self.data[start : min(end, start + 64)]).decode("utf-8", "replace")

    def fields(
        self, start: int, end: int, message: str, read: dict[str, int], others: frozenset[int]
    ) -> Iterator[tuple[int, Any]]:
        """The fields of a message that are read: number, and value or (start, end) in the file."""
        wanted = frozenset(read.values())
        at = start
        while at < end:
            self.count()
            key, at = self.varint(at, end)
            number, wire = key >> 3, key & 7
            value: Any
            if wire == _LENGTH:
                length, at = self.varint(at, end)
                value = (at, at + length)
                at += length
            elif wire == _VARINT:
                value, at = self.varint(at, end)
            elif wire in (_FIXED32, _FIXED64):
                value = -1
                at += 4 if wire == _FIXED32 else 8
            else:
                raise _Refusal("it is no ONNX file")
            if at > end:
                raise _Refusal("it is no ONNX file, or was cut short")
            if number in wanted:
                if wire != _LENGTH and (message, number) not in _NUMBERS:
                    raise _Refusal("it is no ONNX file")
                if wire not in (_VARINT, _LENGTH) or (wire == _LENGTH and (message, number) in _SINGLE_NUMBERS):
                    raise _Refusal("it is no ONNX file")
                yield number, value
            elif number not in others:
                raise _Refusal(f"it holds {_REFUSED.get((message, number), f'field {number} of a {message}')}")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
        raise _Refusal("it is no ONNX file, or was cut short")

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Refusal(f"it has more than {MOST_FIELDS} fields")


_SINGLE_NUMBERS = frozenset({("tensor", _TENSOR["data_type"]), ("tensor", _TENSOR["data_location"])})
_NUMBERS = _SINGLE_NUMBERS | {("tensor", _TENSOR["dims"])}

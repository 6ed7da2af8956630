"""The layers of a built engine and the precision that each computes in, read back from what TensorRT says of them.

Asking for a precision proves nothing: builds were seen that stayed FP32 without a word. Two sources: the engine
inspector's JSON (`Bindings` there became `I/O Tensors` in 11; only `Layers` is read here), which needs a GPU, and the
builder's own list in its log, which TensorRT for RTX writes when it compiles ahead of time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dtvit_edge.errors import VerdictError
from dtvit_edge.precisions import graphs_of

# The first line of the message in which the builder lists the engine's layers.
LOG_TITLE = "Layers:"

_NAMES = {
    "half": "fp16",
    "float16": "fp16",
    "float": "fp32",
    "float32": "fp32",
    "bfloat16": "bf16",
    "float8": "fp8",
    "float4": "fp4",
}
_TYPE = re.compile(
    r"bfloat16|bf16|float8|fp8|float4|fp4|float16|fp16|half|float32|fp32|float|u?int8|int4|int32|int64|bool"
)
# From wide to narrow. Other types (indices, masks, pixels) say nothing about precision.
_WIDTHS = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)"
    r"\], Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId",
)


@dataclass(frozen=True)
class Layer:
    """One layer, as a plan holds it after fusion.

    Attributes:
        kind: TensorRT's own word: `gemm`, `kgen`, `Convolution`.
        inputs, outputs: types of the tensors that flow through it, constants left out: `fp32`, `fp16`, `int8`, `uint8`.
        precision: int8 or fp8 where such an input meets such weights, else the widest type among the inputs: a product
            that turns int8 into floats before it multiplies is no int8 product. Empty where it moves integers only.
        opaque: a fused region whose inside is not shown; its own types are those at its border.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str
    opaque: bool = False
    tactic: str = ""


def from_inspector(text: str) -> list[Layer]:
    """Layers from `EngineInspector.get_engine_information(JSON)`, of any release.

    A layer that is only a name (an engine built without detailed verbosity) has no precision and is opaque.

    Raises:
        ValueError: this is no such JSON.
    """
    try:
        return [_from_json(entry) for entry in json.loads(text).get("Layers", ())]
    except (AttributeError, TypeError) as error:
        raise ValueError(f"no list of layers: {error}") from error


def from_log(message: str) -> list[Layer]:
    """Layers from the builder's message that begins with `Layers:`."""
    rows = [match.groupdict() for line in message.splitlines() if (match := _LINE.match(line))]
    types = [{side: _types([row[side]]) for side in ("inputs", "constants", "outputs")} for row in rows]
    return [_layer(row["name"], row["kind"], row["tactic"], **t) for row, t in zip(rows, types, strict=True)]


def count(layers: Iterable[Layer]) -> dict[str, int]:
    """Number of layers by precision, the most frequent first; layers without one are left out."""
    return dict(Counter(layer.precision for layer in layers if layer.precision).most_common())


def check_precision(asked: str, layers: Sequence[Layer]) -> list[str]:
    """Whether an engine is what was asked for: warnings, in words.

    Raises:
        VerdictError: every layer is shown, and none computes or keeps anything in the precision that was asked for.
    """
    if not layers:
        return [f"the precision of the layers could not be read back; whether this engine is {asked} is not known"]
    narrow = graphs_of(asked)[0].computes_in
    counts = count(layers)
    said = ", ".join(f"{number} {precision}" for precision, number in counts.items()) or "none with a precision"
    if not narrow:
        reduced = [precision for precision in counts if precision != "fp32"]
        return [f"{asked} was asked for, and layers compute in {', '.join(reduced)} ({said})"] if reduced else []
    if any(precision in counts for precision in narrow):
        given = "int8" if asked == "fp16" else narrow[0]
        mixed = Counter(layer.precision for layer in layers if given in layer.inputs and layer.precision != given)
        return [
            f"{number} layers are given {given} and compute in {precision}: those products gain no speed from {given}"
            for precision, number in mixed.items()
        ]
    if any(kind in narrow for layer in layers for kind in (*layer.inputs, *layer.outputs)):
        return [
            f"{asked} is stored, but no layer computes in it ({said}): expect its cost in accuracy and not its speed"
        ]
    hidden = sum(layer.opaque for layer in layers)
    if hidden:
        return [
            f"{hidden} fused regions do not show what they compute in ({said}); that they are {asked} is not proved"
        ]
    raise VerdictError(f"{asked} was asked for, but the engine's layers are {said}; it is not installed")


def _from_json(entry: Any) -> Layer:
    if isinstance(entry, str):
        return Layer(entry, "", (), (), "", opaque=True)

    def side(key: str) -> tuple[str, ...]:
        tensors = (t for t in entry.get(key, ()) if isinstance(t, dict))
        return _types(str(t.get("Format/Datatype") or t.get("Datatype") or t.get("DataType") or "") for t in tensors)

    kind, tactic = str(entry.get("LayerType", "")), str(entry.get("TacticName", ""))
    weights = entry.get("Weights")
    constants = side("Constants") + _types([str(weights.get("Type", ""))] if isinstance(weights, dict) else [])
    return _layer(str(entry.get("Name", "")), kind, tactic, side("Inputs"), constants, side("Outputs"))


def _layer(
    name: str, kind: str, tactic: str, inputs: tuple[str, ...], constants: tuple[str, ...], outputs: tuple[str, ...]
) -> Layer:
    narrow = [t for t in ("int8", "fp8") if t in inputs and t in constants]
    for side in (narrow,) if narrow else (inputs, outputs):
        known = [t for t in _WIDTHS if t in side]
        if known:
            return Layer(name, kind, inputs, outputs, known[0], "ForeignNode" in name, tactic)
    return Layer(name, kind, inputs, outputs, "", "ForeignNode" in name, tactic)


def _types(descriptions: Iterable[str]) -> tuple[str, ...]:
    """Types that descriptions name: "Half", "Row major linear FP16 format", "Datatype: Int8, Format: ..."."""
    types: list[str] = []
    for text in descriptions:
        stated = re.findall(r"Datatype: (\w+)", text) or [text]
        for part in stated:
            match = _TYPE.search(part.lower())
            if match:
                types.append(_NAMES.get(match.group(), match.group()))
    return tuple(types)

"""Records of what `build` made, as text: read back by the types of their fields, and signed by this device's key."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from dtvit_edge.bundle.strict_json import strict_json
from dtvit_edge.errors import EngineError
from dtvit_edge.trt.device_key import code_of, is_code_of, make_key, read_key

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)

# What JSON has for the type of a record's field.
_KINDS: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "tuple": list, "dict": dict, "Any": object}


def to_json(record: DataclassInstance) -> str:
    """A record's text."""
    return json.dumps(asdict(record), indent=1, sort_keys=True) + "\n"


def from_json(kind: type[Record], text: bytes | str, record_format: int) -> Record:
    """Read a record of plain JSON types, whose field `format` has to be this one.

    Raises:
        EngineError: anything unknown or missing.
    """
    try:
        data = strict_json(text)
        if data["format"] != record_format:
            raise EngineError(f"its format is {data['format']!r}, this code reads {record_format}")
        if odd := [of.name for of in fields(kind) if not _is_of(data[of.name], str(of.type))]:
            raise TypeError(f"of another type: {', '.join(odd)}")
        lists = [f.name for f in fields(kind) if str(f.type).startswith("tuple")]
        return kind(**data | {name: tuple(data[name]) for name in lists})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineError(f"no build record: {type(error).__name__}: {error}") from error


def code(record: DataclassInstance) -> str:
    """The authentication code of a record by this device's key, which is made where there is none.

    Raises:
        ConfigError, EngineError: there is no such key, and none can be made.
    """
    return code_of(_signed(record), make_key())


def is_built_here(record: DataclassInstance, mac: str) -> bool:
    """Whether the code in a record is this device's."""
    key = read_key()
    return key is not None and is_code_of(mac, _signed(record), key)


def _signed(record: DataclassInstance) -> dict[str, Any]:
    """What the code of a record is made of: all of it but the code, as JSON has it."""
    data: dict[str, Any] = json.loads(to_json(record))
    del data["mac"]
    return data


def _is_of(value: Any, kind: str) -> bool:
    """What JSON gave is of a field's type, as the field is annotated."""
    if kind.endswith(" | None"):
        return value is None or _is_of(value, kind.removesuffix(" | None"))
    outer, _, inner = kind.partition("[")
    inner = inner.removesuffix("]")
    if isinstance(value, bool) or not isinstance(value, _KINDS[outer]):
        return kind == "Any"
    if outer == "tuple":
        return all(_is_of(item, inner.removesuffix(", ...")) for item in value)
    if outer == "dict":
        return all(_is_of(item, inner.partition(", ")[2]) for item in value.values())
    return True

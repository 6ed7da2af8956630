"""JSON as bundles have it: stricter than Python's reader, which takes NaN, infinities, two fields of one name, and any
depth.
"""

from __future__ import annotations

import json
import math
from typing import Any

# A manifest nests ten levels; what is far deeper would end the readers and writers of it by their recursion.
MOST_DEPTH = 32
# Megabytes of empty lists would take seconds and a hundred times their size.
MOST_VALUES = 500_000
_MOST_INTEGER = 1 << 63


def strict_json(data: bytes | str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError, RecursionError: it is not UTF-8, not JSON, nested too deeply, has more than `MOST_VALUES`, names a
            field twice, or holds a number that is not finite or a text that is no Unicode.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    if sum(text.count(mark) for mark in ",[{") > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES} values")
    value = json.loads(text, parse_constant=_constant, parse_float=_finite, parse_int=_integer, object_pairs_hook=_once)
    _check_depth(value)
    if "\\u" in text:  # half of a surrogate pair can be written so, and nothing could print it
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:24]} is not finite")
    return value


def _integer(text: str) -> int:
    value = int(text) if len(text) < 24 else _MOST_INTEGER
    if abs(value) >= _MOST_INTEGER:
        raise ValueError(f"the number {text[:24]} has more than 64 bits")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is there twice")
    return fields


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {MOST_DEPTH} levels deep")

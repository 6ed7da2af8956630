"""Slice headers as text: a pickle from a process that has parsed hostile files could be code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

from dtvit_edge import reasons
from dtvit_edge.dicom.header import FileRejected
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.slice import PixelFault, PixelLocation, SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding


def headers_as_text(headers: tuple[SliceHeader, ...]) -> str:
    """JSON of one file's headers that pydicom read: the first one's fields, and of each in what it differs from it.

    File, path and state are the asker's own, and left out.
    """
    first = vars(headers[0])
    differing = [
        {name: _plain(value) for name, value in vars(header).items() if value is not first[name]} for header in headers
    ]
    common = {name: _plain(value) for name, value in first.items() if name not in _ASKERS}
    return json.dumps([common, differing])


def headers_from_text(
    text: bytes | bytearray, file: Path, path: str, state: FileState | None
) -> tuple[SliceHeader, ...]:
    """The headers again.

    Raises:
        ValueError, TypeError, KeyError: it is no such text.
    """
    common, differing = json.loads(text)
    first = SliceHeader(file=file, path=path, state=state, **_fields(common))
    return tuple(replace(first, **_fields(fields)) for fields in differing)


def rejection_as_text(error: FileRejected) -> str:
    """JSON of why a whole file is rejected."""
    return json.dumps([error.reason.code, error.detail, asdict(error.identity), error.frames])


def rejection_from_text(text: bytes | bytearray) -> FileRejected:
    """The error again.

    Raises:
        ValueError, TypeError, KeyError: it is no such text.
    """
    code, detail, identity, frames = json.loads(text)
    return FileRejected(SliceRejected(reasons.REASONS[code], str(detail)), Identity(**identity), int(frames))


def _plain(value: Any) -> Any:
    if isinstance(value, PixelLocation):
        return asdict(value) | {"header_digest": value.header_digest.hex()}
    if isinstance(value, PixelFault):
        return [value.reason.code, value.detail]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _fields(data: dict[str, Any]) -> dict[str, Any]:
    """Fields of a header, each of its type."""
    return {name: value if value is None else _MADE.get(name, _unchanged)(value) for name, value in data.items()}


def _unchanged(value: Any) -> Any:
    return value


def _encoding(data: dict[str, Any]) -> PixelEncoding:
    padding = data["padding"]
    return PixelEncoding(**data | {"padding": None if padding is None else tuple(padding)})


def _location(data: dict[str, Any]) -> PixelLocation:
    return PixelLocation(**data | {"header_digest": bytes.fromhex(data["header_digest"])})


def _fault(data: list[str]) -> PixelFault:
    code, detail = data
    return PixelFault(reasons.REASONS[code], str(detail))


_ASKERS = ("file", "path", "state")
_MADE: dict[str, Callable[[Any], Any]] = {
    "identity": lambda data: Identity(**data),
    "encoding": _encoding,
    "position_mm": tuple,
    "orientation": lambda rows: tuple(map(tuple, rows)),
    "pixel_spacing_mm": tuple,
    "concatenation": tuple,
    "pixel_location": _location,
    "pixel_fault": _fault,
}

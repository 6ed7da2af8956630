"""Slice headers as text: a pickle from a process that has parsed hostile files could be code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dtvit_edge import reasons
from dtvit_edge.dicom.header import FileRejected
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding


def headers_as_text(headers: tuple[SliceHeader, ...]) -> str:
    """JSON of one file's headers that pydicom read; file, path and state are the asker's own, and left out."""
    return json.dumps([_fields(header) for header in headers])


def headers_from_text(
    text: bytes | bytearray, file: Path, path: str, state: FileState | None
) -> tuple[SliceHeader, ...]:
    """The headers again.

    Raises:
        ValueError, TypeError, KeyError: it is no such text.
    """
    return tuple(_header(fields, file, path, state) for fields in json.loads(text))


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


def _fields(header: SliceHeader) -> dict[str, Any]:
    return {name: value for name, value in asdict(header).items() if name not in ("file", "path", "state")}


def _header(fields: dict[str, Any], file: Path, path: str, state: FileState | None) -> SliceHeader:
    encoding, padding = fields["encoding"], fields["encoding"]["padding"]
    position, orientation, spacing = (fields[name] for name in ("position_mm", "orientation", "pixel_spacing_mm"))
    known: dict[str, Any] = {
        "file": file,
        "path": path,
        "state": state,
        "identity": Identity(**fields["identity"]),
        "encoding": PixelEncoding(**encoding | {"padding": None if padding is None else tuple(padding)}),
        "position_mm": None if position is None else tuple(position),
        "orientation": None if orientation is None else tuple(map(tuple, orientation)),
        "pixel_spacing_mm": None if spacing is None else tuple(spacing),
        "pixel_location": None,
    }
    return SliceHeader(**fields | known)

"""Slice headers without files, for what is decided by headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def header(z: float | None, *, name: str = "", thickness: float | None = 5.0, **values: Any) -> SliceHeader:
    """An axial slice of 512 x 512 pixels at height `z`; file and path are its name, which is its height by default."""
    name = name or str(z)
    position = None if z is None else (0.0, 0.0, float(z))
    defaults: dict[str, Any] = {"orientation": AXIAL, "thickness_mm": thickness, "position_mm": position}
    identity = values.pop("identity", Identity("2.25.1", "2.25.2", f"2.25.3.{name}"))
    frame = values.pop("frame", 1)
    return SliceHeader(Path(name), name, identity, frame, 1, 512, 512, PixelEncoding(), **{**defaults, **values})


def line(*positions: float, thickness: float = 5.0) -> list[SliceHeader]:
    """Slices of one thickness at these heights."""
    return [header(z, thickness=thickness) for z in positions]

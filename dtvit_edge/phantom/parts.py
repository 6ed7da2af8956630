"""The solids that anatomy is built of, in canonical head coordinates (see `anatomy`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; `turn_deg` rotates it about z, `softness_mm` is the width of its edge (0: one pixel)."""

    centre: Point
    radii: Point
    hu: float
    turn_deg: float = 0.0
    softness_mm: float = 0.0
    texture: str = ""


@dataclass(frozen=True)
class Tube:
    """A round cone from `start` to `end`, `start_mm` and `end_mm` its radii."""

    start: Point
    end: Point
    start_mm: float
    end_mm: float
    hu: float
    texture: str = ""


Part = Ellipsoid | Tube


def both(rng: np.random.Generator, part: Part, wobble_mm: float = 1.0) -> list[Part]:
    """The part and its mirror image, each moved and sized a little on its own."""
    parts: list[Part] = []
    for side in (1.0, -1.0):
        move = rng.normal(0, wobble_mm, 3)
        grow = float(np.clip(rng.normal(1.0, 0.05), 0.85, 1.15))
        if isinstance(part, Ellipsoid):
            centre, turn_deg = _moved(part.centre, side, move), side * part.turn_deg
            parts.append(replace(part, centre=centre, radii=_grown(part.radii, grow), turn_deg=turn_deg))
        else:
            start, end = (_moved(point, side, move) for point in (part.start, part.end))
            tube = replace(part, start=start, end=end)
            parts.append(replace(tube, start_mm=part.start_mm * grow, end_mm=part.end_mm * grow))
    return parts


def _moved(point: Point, side: float, move: np.ndarray) -> Point:
    return (side * point[0] + float(move[0]), point[1] + float(move[1]), point[2] + float(move[2]))


def _grown(radii: Point, grow: float) -> Point:
    return (radii[0] * grow, radii[1] * grow, radii[2] * grow)

"""The profile of a stack: probability over position in mm, with gaps and missing slices, as coordinates of an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 960, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 40
# About so many marks along the axis.
_MARKS = 8
_STEPS_MM = (1, 2, 5, 10, 20, 25, 50, 100, 200)


@dataclass(frozen=True)
class Point:
    """An image of a stack: `position` is in mm, or its number where no position is known."""

    position: float
    probability: float | None
    label: str


@dataclass(frozen=True)
class Profile:
    """What is drawn, in units of the view box `WIDTH` x `HEIGHT`.

    Attributes:
        dots: x, y and text of each scored image; missing: x and text of each that was not.
        lines: points of the lines between neighbours, broken where something is missing.
        gaps: x and width of intervals in which a slice is missing.
        marks: x and text along the axis; threshold_y: of the threshold; unit: what the axis counts.
    """

    dots: tuple[tuple[float, float, str], ...]
    missing: tuple[tuple[float, str], ...]
    lines: tuple[str, ...]
    gaps: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, str], ...]
    threshold_y: float
    unit: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    def y(self, probability: float) -> float:
        """Where a probability lies."""
        return _y(probability)


def profile(
    points: Sequence[Point], gaps: Sequence[tuple[float, float]], threshold: float, *, in_mm: bool
) -> Profile | None:
    """The profile of points in the order of their positions; None without any.

    Args:
        gaps: intervals (from, to) in which a slice is missing.
    """
    if not points:
        return None
    low, high = points[0].position, max(p.position for p in points)
    low = min(low, *(p.position for p in points))
    span = max(high - low, 1.0)

    def x(position: float) -> float:
        # Half a percent of air at both ends, so that no dot is cut.
        return round(LEFT + 8 + (position - low) / span * (WIDTH - LEFT - RIGHT - 16), 1)

    lines: list[list[str]] = [[]]
    for before, point in zip([None, *points[:-1]], points, strict=True):
        is_broken = before is not None and any(start < point.position and end > before.position for start, end in gaps)
        if point.probability is None or is_broken:
            lines.append([])
        if point.probability is not None:
            lines[-1].append(f"{x(point.position)},{_y(point.probability)}")
    return Profile(
        dots=tuple((x(p.position), _y(p.probability), p.label) for p in points if p.probability is not None),
        missing=tuple((x(p.position), p.label) for p in points if p.probability is None),
        lines=tuple(" ".join(line) for line in lines if len(line) > 1),
        gaps=tuple((x(start), round(x(end) - x(start), 1)) for start, end in gaps),
        marks=tuple((x(mark), f"{mark:g}") for mark in _marks(low, high)),
        threshold_y=_y(threshold),
        unit="position in mm, from feet to head" if in_mm else "number of the image: no position is known",
    )


def _y(probability: float) -> float:
    return round(TOP + (1 - probability) * (HEIGHT - TOP - BOTTOM), 1)


def _marks(low: float, high: float) -> list[float]:
    step = next((s for s in _STEPS_MM if (high - low) / s <= _MARKS), _STEPS_MM[-1])
    first = math.ceil(low / step)
    # Positions that no scan has would make marks without end.
    return [step * i for i in range(first, min(math.floor(high / step), first + 4 * _MARKS) + 1)]

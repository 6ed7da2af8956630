"""Where slices lie: along their normal and along the patient's axis, in order, and where one is missing."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from dtvit_edge.dicom.slice import SliceHeader, Vector

# Axial with the gantry tilted by up to 30 degrees and the head by a few more: the normal within 37 degrees of z.
AXIAL_COSINE = 0.8
# Positions are written with at least two decimals; slices nearer than this lie in the same place.
SAME_POSITION_MM = 0.1
# Direction cosines of one scan differ by rounding (2e-4 was seen), a tilt by one degree changes them by 0.017.
SAME_ORIENTATION = 0.01
# A missing slice doubles an interval; overlapping and mixed protocols vary by less than half.
GAP_FACTOR = 1.5
# No slice of a head is thicker; a larger SliceThickness is not believed, since it would explain any gap.
MOST_THICKNESS_MM = 10.0
# Protocols with spaces between slices are known up to one of a slice's own thickness.
MOST_SPACE = 2.0
# As many intervals of a kind make a usual one.
LEAST_ALIKE = 3
_UPRIGHT: Vector = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Position:
    """Where a slice lies.

    Attributes:
        height_mm: along the axis that is asked for, growing towards the head.
        thickness_mm: of the slice; 0 where it is not known.
        number: InstanceNumber.
    """

    height_mm: float
    thickness_mm: float
    number: int | None


def normal(orientation: tuple[Vector, Vector]) -> Vector:
    """The slice normal (row x column), turned so that it points to the head (PS3.3 C.7.6.2.1.1)."""
    (a, b, c), (d, e, f) = orientation
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    return (x, y, z) if z >= 0 else (-x, -y, -z)


def is_axial(header: SliceHeader) -> bool | None:
    """Whether the slice plane is axial, gantry tilt included; None where the orientation is not given."""
    return None if header.orientation is None else normal(header.orientation)[2] >= AXIAL_COSINE


def same_orientation(a: SliceHeader, b: SliceHeader) -> bool:
    """Whether two slices are parallel, within `SAME_ORIENTATION` of every cosine; True where one says nothing."""
    if a.orientation is None or b.orientation is None:
        return True
    pairs = zip((*a.orientation[0], *a.orientation[1]), (*b.orientation[0], *b.orientation[1]), strict=True)
    return all(abs(m - n) <= SAME_ORIENTATION for m, n in pairs)


def distance_mm(header: SliceHeader, along: Vector) -> float | None:
    """The slice's position along a direction; None where the position is missing."""
    if header.position_mm is None:
        return None
    return sum(p * n for p, n in zip(header.position_mm, along, strict=True))


def centre_height_mm(header: SliceHeader) -> float | None:
    """The z of the image's centre (PS3.3 C.7.6.2.1.1), by which slices of different tilt compare.

    None without a position.
    """
    if header.position_mm is None:
        return None
    height = header.position_mm[2]
    if header.orientation is not None and header.pixel_spacing_mm is not None:
        (row, column), (between_rows, between_columns) = header.orientation, header.pixel_spacing_mm
        height += row[2] * between_columns * (header.columns - 1) / 2
        height += column[2] * between_rows * (header.rows - 1) / 2
    return height


def has_geometry(headers: Sequence[SliceHeader]) -> bool:
    """True where every slice has a position and an orientation."""
    return all(h.position_mm is not None and h.orientation is not None for h in headers)


def heights_mm(headers: Sequence[SliceHeader]) -> list[float | None]:
    """Where parallel slices lie along their normal, the first one's that has an orientation.

    A slice without a position lies between those whose InstanceNumbers enclose its own. Where no slice has a
    position, SliceLocation stands in, if every slice has one. None is what cannot be known.
    """
    along = next((normal(h.orientation) for h in headers if h.orientation is not None), _UPRIGHT)
    heights = [distance_mm(header, along) for header in headers]
    if all(height is None for height in heights):
        locations = [header.slice_location_mm for header in headers]
        return locations if all(location is not None for location in locations) else heights
    known = sorted(
        (header.instance_number, height)
        for header, height in zip(headers, heights, strict=True)
        if header.instance_number is not None and height is not None
    )
    return [
        _between(header.instance_number, known) if height is None else height
        for header, height in zip(headers, heights, strict=True)
    ]


def ordered(headers: Iterable[SliceHeader]) -> tuple[SliceHeader, ...]:
    """Parallel slices from feet to head, never by name.

    Where one's height cannot be known, all of them are ordered by InstanceNumber.
    """
    headers = list(headers)
    heights = heights_mm(headers)
    if any(height is None for height in heights):
        heights = [float(header.instance_number or 0) for header in headers]
    keyed = zip(headers, heights, strict=True)
    return tuple(h for h, _ in sorted(keyed, key=lambda pair: (pair[1] or 0.0, pair[0].path, pair[0].frame)))


def gaps(positions: Iterable[Position]) -> list[tuple[float, float]]:
    """Intervals (from, to) in mm in which a slice is missing.

    An interval is explained by the thickness of its two slices, or by the usual interval among such slices, up to twice
    their thickness: a protocol may leave spaces. Where their InstanceNumbers leave one out, only the lesser of usual
    interval and thickness explains it.
    """
    line = sorted(positions, key=lambda p: p.height_mm)
    steps = [(a, b) for a, b in pairwise(line) if b.height_mm - a.height_mm >= SAME_POSITION_MM]
    intervals: dict[float, list[float]] = defaultdict(list)
    for a, b in steps:
        intervals[_contiguous_mm(a, b)].append(b.height_mm - a.height_mm)
    overall = median_low([b.height_mm - a.height_mm for a, b in steps]) if steps else 0.0
    missing = []
    for a, b in steps:
        contiguous, thinner = _contiguous_mm(a, b), min(a.thickness_mm, b.thickness_mm)
        # A kind of interval that is there once or twice would explain itself.
        alike = intervals[contiguous]
        usual = median_low(alike) if len(alike) >= LEAST_ALIKE else min(median_low(alike), overall)
        spaced = min(usual, MOST_SPACE * contiguous) if contiguous else usual
        explained = min(thinner, usual) if _skips(a, b) and thinner else max(contiguous, spaced)
        if b.height_mm - a.height_mm > GAP_FACTOR * explained:
            missing.append((a.height_mm, b.height_mm))
    return missing


def _contiguous_mm(a: Position, b: Position) -> float:
    """The interval at which two slices touch; 0 where a thickness is not known."""
    known = [p.thickness_mm for p in (a, b) if 0 < p.thickness_mm <= MOST_THICKNESS_MM]
    return sum(known) / len(known) if known else 0.0


def _skips(a: Position, b: Position) -> bool:
    """Whether InstanceNumbers of neighbours leave one out."""
    return a.number is not None and b.number is not None and abs(a.number - b.number) > 1


def _between(number: int | None, known: Sequence[tuple[int, float]]) -> float | None:
    """The height of a slice by its number, in proportion between its neighbours'; None at the ends.

    Args:
        known: (number, height) of the others, sorted.
    """
    if number is None:
        return None
    low = bisect_left(known, (number, -math.inf))
    high = bisect_right(known, (number, math.inf))
    if low == 0 or high == len(known):
        return None
    below, above = known[low - 1], known[high]
    share = (number - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])

"""Where slices lie: order along the normal, duplicates of position, gaps, and whether the plane is axial."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median_low

from dtvit_edge.dicom.slice import SliceHeader, Vector

# Axial with the gantry tilted by up to 30 degrees and the head by a few more: the normal within 37 degrees of z.
AXIAL_COSINE = 0.8
# Positions are written with at least two decimals; slices nearer than this lie in the same place.
SAME_POSITION_MM = 0.1
# A missing slice doubles an interval; overlapping and mixed protocols vary by less than half.
GAP_FACTOR = 1.5


def normal(orientation: tuple[Vector, Vector]) -> Vector:
    """The slice normal (row x column), turned so that it points to the head (PS3.3 C.7.6.2.1.1)."""
    (a, b, c), (d, e, f) = orientation
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    return (x, y, z) if z >= 0 else (-x, -y, -z)


def is_axial(header: SliceHeader) -> bool | None:
    """Whether the slice plane is axial, gantry tilt included; None where the orientation is not given."""
    return None if header.orientation is None else normal(header.orientation)[2] >= AXIAL_COSINE


def distance_mm(header: SliceHeader) -> float | None:
    """The slice's position along its normal; None where position or orientation is missing."""
    if header.position_mm is None or header.orientation is None:
        return None
    return sum(p * n for p, n in zip(header.position_mm, normal(header.orientation), strict=True))


def ordered(headers: Iterable[SliceHeader]) -> tuple[SliceHeader, ...]:
    """From feet to head by the projection of the position on the normal, never by name or InstanceNumber alone.

    Where a position is missing the whole series falls back to InstanceNumber, which `has_geometry` tells.
    """
    headers = list(headers)
    if has_geometry(headers):
        return tuple(sorted(headers, key=lambda h: (distance_mm(h) or 0.0, h.path, h.frame)))
    return tuple(sorted(headers, key=lambda h: (h.instance_number or 0, h.path, h.frame)))


def has_geometry(headers: Sequence[SliceHeader]) -> bool:
    """True where every slice has a position and an orientation."""
    return all(distance_mm(h) is not None for h in headers)


def repeats_positions(headers: Iterable[SliceHeader]) -> bool:
    """True where two acquisitions lie in the same place: two passes stored as one series.

    The acquisition number alone says nothing, since step-and-shoot scanners count it up with every rotation.
    """
    placed = [(d, h.acquisition_number) for h in headers if (d := distance_mm(h)) is not None]
    placed.sort(key=lambda place: place[0])
    return any(b - a < SAME_POSITION_MM and m != n for (a, m), (b, n) in pairwise(placed))


def has_gap(headers: Sequence[SliceHeader]) -> bool:
    """True where two neighbours lie further apart than the series' own spacing explains.

    An interval is explained by the thicker of its two slices, or by the usual interval among slices of that
    thickness (a protocol may leave spaces); a series may mix thicknesses. False where there is no geometry.

    Args:
        headers: one series in order.
    """
    if not has_geometry(headers) or len(headers) < 2:
        return False
    places = [distance_mm(h) or 0.0 for h in headers]
    intervals: list[tuple[float, float]] = []  # (thickness, interval)
    for i in range(len(headers) - 1):
        interval = places[i + 1] - places[i]
        if interval >= SAME_POSITION_MM:
            thickness = max(headers[i].thickness_mm or 0.0, headers[i + 1].thickness_mm or 0.0)
            intervals.append((thickness, interval))
    usual: dict[float, list[float]] = defaultdict(list)
    for thickness, interval in intervals:
        usual[thickness].append(interval)
    return any(
        interval > GAP_FACTOR * max(thickness, median_low(usual[thickness])) for thickness, interval in intervals
    )

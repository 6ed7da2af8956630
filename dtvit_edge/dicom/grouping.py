"""Slices to series' parts, and these to stacks: what one result is made of.

A series is split into parts that are parallel and of one kind of kernel. A *scan* is what shares a series or a frame of
reference, and the kind of kernel. Parts of one scan that complement each other (two slabs, a tilted base, a series for
each slice) make one *stack*; those that show the same places again (another reconstruction, a repeat after motion) make
a stack of their own.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from dtvit_edge.dicom.geometry import (
    SAME_POSITION_MM,
    Position,
    centre_height_mm,
    gaps,
    heights_mm,
    ordered,
    same_orientation,
)
from dtvit_edge.dicom.slice import Series, SliceHeader
from dtvit_edge.dicom.suitability import is_bone_kernel

# A perfusion or a cine scan shows each place many times; a repeat after motion, and one more, show it three times.
DYNAMIC_IMAGES = 4
# Of more images in an acquisition a part belongs to another reconstruction of it.
MOST_OF_ONE = 1.5
# How many planes of one series, and stacks of one scan, are looked through; what has more is no scan of a head.
MOST_PLANES = 64


@dataclass(frozen=True)
class PlacedSlice:
    """A slice of a stack.

    Attributes:
        height_mm: along the normal where the stack is one part of one series, else the z of the image's centre; None
            where the slice does not say where it lies.
    """

    header: SliceHeader
    height_mm: float | None


@dataclass(frozen=True)
class Stack:
    """Parts of series that together show a head, or a piece of one, once.

    Attributes:
        scan: a number that the stacks of one scan share.
        series: the largest part first.
        slices: from feet to head; by InstanceNumber where one does not say where it lies.
    """

    scan: int
    series: tuple[Series, ...]
    slices: tuple[PlacedSlice, ...]

    @property
    def is_placed(self) -> bool:
        """Whether every slice says where it lies."""
        return all(s.height_mm is not None for s in self.slices)

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Intervals (from, to) in mm in which a slice is missing, among the slices that say where they lie."""
        return gaps(
            Position(s.height_mm, s.header.thickness_mm or 0.0, s.header.instance_number)
            for s in self.slices
            if s.height_mm is not None
        )

    @property
    def misses_numbers(self) -> bool:
        """Whether the InstanceNumbers of a stack whose slices do not say where they lie leave one out."""
        numbers = {n for s in self.slices if (n := s.header.instance_number) is not None}
        return len(numbers) == len(self.slices) and max(numbers) - min(numbers) >= len(self.slices)

    @property
    def misses_parts(self) -> bool:
        """Whether a part of an image that was cut into several files is not there."""
        numbers: dict[str, set[int]] = defaultdict(set)
        count: dict[str, int] = defaultdict(int)
        for s in self.slices:
            if s.header.concatenation is not None:
                uid, number, parts = s.header.concatenation
                numbers[uid].add(number)
                count[uid] = max(count[uid], number, parts)
        return any(len(found) < count[uid] for uid, found in numbers.items())

    @property
    def is_cut_short(self) -> bool:
        """Whether ImagesInAcquisition says that there were more slices.

        Where it is less, it counts something else than these: a rotation, or one of two slabs; where it is much more,
        it counts a second reconstruction as well.
        """
        count = len(self.slices)
        return any(count < (s.header.images_in_acquisition or 0) < MOST_OF_ONE * count for s in self.slices)


@dataclass
class _Part:
    """A stack in the making; `heights` are sorted."""

    series: list[Series]
    heights: list[float]


def split(series: Sequence[SliceHeader]) -> list[tuple[SliceHeader, ...]]:
    """The parts of one series that are parallel and of one kind of kernel, each from feet to head.

    Kernels split a series only where they show the same places: one odd name among many is a slice's tag, and no
    reconstruction of its own.
    """
    parts: list[list[SliceHeader]] = []
    for kernel in _by_kernel(series):
        parallel: list[list[SliceHeader]] = []
        for header in kernel:
            plane = next((p for p in parallel[-MOST_PLANES:] if same_orientation(p[0], header)), None)
            if plane is None:
                parallel.append([header])
            else:
                plane.append(header)
        parts += parallel
    return [ordered(part) for part in parts]


def is_bone(headers: Sequence[SliceHeader]) -> bool:
    """Whether most slices name a bone kernel."""
    return 2 * sum(is_bone_kernel(header.kernel) for header in headers) > len(headers)


def is_dynamic(headers: Sequence[SliceHeader]) -> bool:
    """Whether most of several places are shown `DYNAMIC_IMAGES` times or more; the same image again does not count."""
    images: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for header, height in zip(headers, heights_mm(headers), strict=True):
        if height is not None:
            images[round(height / SAME_POSITION_MM)].add((header.identity.sop_uid, header.frame))
    many = sum(len(place) >= DYNAMIC_IMAGES for place in images.values())
    return 2 * many > len(images) > 1


def stacks(series: Iterable[Series], thickness_mm: float) -> list[Stack]:
    """Put the suitable series of one study together.

    Args:
        thickness_mm: slices nearer than half of it show the same place.
    """
    made: list[Stack] = []
    largest_first = sorted(series, key=lambda s: (-len(s.headers), s.headers[0].path, s.headers[0].frame))
    for scan, members in enumerate(_scans(largest_first)):
        parts: list[_Part] = []
        for member in members:
            heights = sorted(h for header in member.headers if (h := _height_mm(header)) is not None)
            part = _complemented(parts, heights, thickness_mm)
            if part is None:
                parts.append(_Part([member], heights))
            else:
                part.series.append(member)
                for height in heights:
                    insort(part.heights, height)
        made += [Stack(scan, tuple(part.series), _placed(part.series)) for part in parts]
    return made


def _by_kernel(series: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    kinds = [is_bone_kernel(header.kernel) for header in series]
    if len(set(kinds)) == 1:
        return [list(series)]
    places = [h if h is None else round(h / SAME_POSITION_MM) for h in heights_mm(series)]
    soft = {place for place, bone in zip(places, kinds, strict=True) if not bone}
    again = sum(place is None or place in soft for place, bone in zip(places, kinds, strict=True) if bone)
    if 2 * again <= sum(kinds):
        return [list(series)]
    return [[h for h, bone in zip(series, kinds, strict=True) if bone is kind] for kind in (False, True)]


def _scans(series: Sequence[Series]) -> list[list[Series]]:
    """What shares a series, or a frame of reference, and the kind of kernel; in the order given."""
    above: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while (parent := above.setdefault(key, key)) != key:
            above[key] = key = above[parent]
        return key

    for i, member in enumerate(series):
        bone = is_bone(member.headers)
        above[root(("series", member.series_uid, bone))] = root(i)
        for frame in {header.frame_of_reference_uid for header in member.headers} - {""}:
            above[root(("frame", frame, bone))] = root(i)
    scans: dict[Hashable, list[Series]] = defaultdict(list)
    for i, member in enumerate(series):
        scans[root(i)].append(member)
    return list(scans.values())


def _complemented(parts: Sequence[_Part], heights: Sequence[float], thickness_mm: float) -> _Part | None:
    """The part of a stack to which slices at these heights add more than they repeat."""
    for part in parts[:MOST_PLANES]:
        new = 0
        for height in heights:
            at = bisect(part.heights, height)
            new += all(abs(height - other) > thickness_mm / 2 for other in part.heights[max(at - 1, 0) : at + 1])
        if part.heights and 2 * new > len(heights):
            return part
    return None


def _height_mm(header: SliceHeader) -> float | None:
    """Along the patient's axis; SliceLocation stands in where there is no position."""
    height = centre_height_mm(header)
    return header.slice_location_mm if height is None else height


def _placed(series: Sequence[Series]) -> tuple[PlacedSlice, ...]:
    if len(series) == 1:
        headers = series[0].headers
        return tuple(map(PlacedSlice, headers, heights_mm(headers)))
    slices = [PlacedSlice(header, _height_mm(header)) for member in series for header in member.headers]
    return tuple(sorted(slices, key=lambda s: (s.height_mm or 0.0, s.header.path, s.header.frame)))

"""What the model is shown of a stack: thin slices become one image, and images that show the same place share it."""

from __future__ import annotations

from collections.abc import Sequence

from dtvit_edge.dicom.geometry import SAME_POSITION_MM
from dtvit_edge.dicom.grouping import PlacedSlice, Stack
from dtvit_edge.dicom.slice import SliceHeader, SliceImage


def images(stack: Stack, thickness_mm: float) -> list[SliceImage]:
    """The images of a stack, from feet to head.

    Slices thinner than half of `thickness_mm`, and closer to each other than that, are one image up to `thickness_mm`.
    Images closer than half of it show the same place. Where a slice does not say where it lies, each slice is an image
    and a place of its own.
    """
    if not stack.is_placed:
        return [SliceImage((s.header,), i + 1) for i, s in enumerate(stack.slices)]
    groups = [group for layer in _layers(stack.slices) for group in _groups(layer, thickness_mm)]
    placed = sorted((_height(group), group[0].header.path, group[0].header.frame, i) for i, group in enumerate(groups))
    made = []
    place, start = 0, float("-inf")
    for height, _, _, i in placed:
        if height - start >= thickness_mm / 2 - SAME_POSITION_MM:
            place, start = place + 1, height
        made.append(SliceImage(tuple(_headers(groups[i])), place))
    return made


def _layers(slices: Sequence[PlacedSlice]) -> list[list[PlacedSlice]]:
    """The first image of every place, the second of every place, and so on: repeats are never averaged together."""
    layers: list[list[PlacedSlice]] = []
    depth, before = 0, float("-inf")
    for s in slices:
        height = s.height_mm or 0.0
        depth = depth + 1 if height - before < SAME_POSITION_MM else 0
        before = height
        if depth == len(layers):
            layers.append([])
        layers[depth].append(s)
    return layers


def _groups(layer: Sequence[PlacedSlice], thickness_mm: float) -> list[list[PlacedSlice]]:
    groups: list[list[PlacedSlice]] = []
    for s in layer:
        if groups and _belongs(s, groups[-1], thickness_mm):
            groups[-1].append(s)
        else:
            groups.append([s])
    return groups


def _belongs(s: PlacedSlice, group: Sequence[PlacedSlice], thickness_mm: float) -> bool:
    """Whether a slice goes into the image of those below it, which reaches from the first one's lower face."""
    height, first, before = (p.height_mm or 0.0 for p in (s, group[0], group[-1]))
    interval = height - before
    thin = all(0 < (p.header.thickness_mm or interval) < thickness_mm / 2 for p in (s, group[-1]))
    return thin and interval < thickness_mm / 2 and height - first + interval / 2 <= thickness_mm


def _height(group: Sequence[PlacedSlice]) -> float:
    return sum(s.height_mm or 0.0 for s in group) / len(group)


def _headers(group: Sequence[PlacedSlice]) -> list[SliceHeader]:
    return [s.header for s in group]

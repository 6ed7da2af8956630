"""Pictures of a page: a slice in the brain window as PNG, and what an evidence map is drawn from."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.slice import Slice
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.report.evidence import CELLS, Evidence, EvidenceMap, box
from dtvit_edge.spec import LOCATION_LABELS, MAX_CROP, PreprocessSpec, Window

LEVELS = 10
# Below so many log-odds no patch matters more than another: the picture would show nothing but rounding.
LEAST_LOSS = 0.05
# A contour this near to the head's is drawn with a tenth of its points.
_OUTLINE_PIXELS = 1.0


@dataclass(frozen=True)
class MapCell:
    """A cell of a map, in pixels of the model's input; `level` 0 to 9 is its share of the greatest loss."""

    x: int
    y: int
    width: int
    height: int
    level: int


@dataclass(frozen=True)
class MapDrawing:
    """An evidence map as it is drawn, in pixels of the model's input.

    Attributes:
        title: the answer that it is about; side: of the picture.
        cells: those in which something was hidden; outline: of the head, as the path of an SVG.
        patch: x, y, width and height of the patch whose hiding costs most.
        note: what hiding that patch does, in words.
        is_flat: no patch matters more than another.
    """

    title: str
    side: int
    cells: tuple[MapCell, ...]
    outline: str
    patch: tuple[int, int, int, int]
    note: str
    is_flat: bool


class BrainWindow:
    """Draws slices in the brain window, in the geometry of the model's input.

    Args:
        side: of the pictures, in pixels.
    """

    def __init__(self, spec: PreprocessSpec, side: int) -> None:
        drawn = replace(spec, windows=(Window(),))
        # From the stored pixels at once, where the geometry allows it: what the model was shown is a half as fine.
        if spec.resize is not None and (resize := round(spec.resize * side / spec.crop)) <= MAX_CROP:
            drawn = replace(drawn, resize=max(resize, side), crop=side)
        self._prepare, self._side = CpuPreprocessor(drawn), side

    def __call__(self, slice_: Slice) -> str:
        """A PNG as a data URI."""
        prepared = self._prepare(slice_.stored, slice_.header.encoding)
        image = prepared.pixels[0]
        if image.shape[0] != self._side:
            image = cv2.resize(image, (self._side, self._side), interpolation=cv2.INTER_AREA)
        _, png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")


def drawings(found: Evidence, pixels: NDArray[np.uint8]) -> list[MapDrawing]:
    """The maps of a slice, as they are drawn.

    Args:
        pixels: (C, side, side) uint8 that the maps are of.
    """
    outline = _outline(pixels[0])
    drawn = [_drawing("haemorrhage", found.ich, outline, pixels.shape[-1])]
    if found.location is not None:
        title = f"location: {LOCATION_LABELS[found.location_index]}"
        drawn.append(_drawing(title, found.location, outline, pixels.shape[-1]))
    return drawn


def _drawing(title: str, map_: EvidenceMap, outline: str, side: int) -> MapDrawing:
    greatest = float(np.nanmax(map_.loss))
    is_flat = greatest < LEAST_LOSS
    cells = []
    for i in range(CELLS):
        for j in range(CELLS):
            loss = map_.loss[i, j]
            if np.isfinite(loss):
                level = 0 if is_flat else min(int(LEVELS * max(loss, 0.0) / greatest), LEVELS - 1)
                top, bottom, left, right = box((i, j), side, 1)
                cells.append(MapCell(left, top, right - left, bottom - top, level))
    top, bottom, left, right = box(map_.strongest, side)
    if is_flat:
        note = "Hiding any one patch hardly changes this answer."
    else:
        # A probability near 1 hardly moves where its odds fall a thousandfold: both are said.
        note = (
            f"With the marked patch hidden: {_probability(map_.answer)} becomes {_probability(map_.hidden)} "
            f"(log-odds {map_.answer:.1f} to {map_.hidden:.1f})."
        )
    return MapDrawing(title, side, tuple(cells), outline, (left, top, right - left, bottom - top), note, is_flat)


def _probability(log_odds: float) -> str:
    return f"{float(1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))):.4f}"


def _outline(image: NDArray[np.uint8]) -> str:
    contours, _ = cv2.findContours((image > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return ""
    points = cv2.approxPolyDP(max(contours, key=cv2.contourArea), _OUTLINE_PIXELS, True)[:, 0]
    return "M" + " ".join(f"{x},{y}" for x, y in points.tolist()) + "Z"

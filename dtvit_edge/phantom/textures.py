"""Random textures: correlated noise through the study, and the folding pattern of the cortex."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dtvit_edge.phantom.canvas import Array

FOLD_MAP = 512
FOLD_PITCH_MM = 0.62
FOLD_CENTRE_Z_MM = -40.0
"""Height that sulci point at: low, or else the temporal lobes are folded as finely as the map's far edge."""

_FOLD_RADIUS_MM = 95.0
_ISLAND = 280
"""Patches of the fold map below this many pixels carry no sulcus around them."""


class Noise:
    """Gaussian noise in the scanner's frame, unit variance, correlated over `scale_mm` in all directions."""

    def __init__(
        self, rng: np.random.Generator, scale_mm: float, width_mm: float, low_mm: float, high_mm: float
    ) -> None:
        """Covers `width_mm` squared in the plane, `low_mm` to `high_mm` along the slice normal."""
        self._node_mm = scale_mm
        self._low_mm = low_mm - 2 * self._node_mm
        planes = int((high_mm - low_mm) / self._node_mm) + 6
        side = int(np.ceil(width_mm / self._node_mm)) + 2
        nodes = rng.standard_normal((planes, side, side), dtype=np.float32)
        nodes = np.stack([cv2.GaussianBlur(n, (0, 0), 0.8) for n in nodes])
        self._nodes = nodes / nodes.std()
        self._inside = (side - 2) / side

    def at(self, normal_mm: float, size: int) -> Array:
        """One plane: (size, size) float32."""
        place = float(np.clip((normal_mm - self._low_mm) / self._node_mm, 0, len(self._nodes) - 1.001))
        low, part = int(place), np.float32(place - int(place))
        plane = self._nodes[low] * (1 - part) + self._nodes[low + 1] * part
        plane *= 1.0 / np.sqrt(part**2 + (1 - part) ** 2)
        whole: Array = cv2.resize(plane, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)
        return whole


def draw_folds(rng: np.random.Generator, gyrus_mm: float) -> tuple[Array, Array]:
    """The cortex unrolled from the vertex (Lambert's equal-area map): distance to a sulcus, its width.

    Returns two (FOLD_MAP, FOLD_MAP) float32 maps: millimetres, and a factor of about 1.
    """
    noise: Array = rng.standard_normal((FOLD_MAP, FOLD_MAP), dtype=np.float32)
    noise = _radial(cv2.GaussianBlur(noise, (0, 0), gyrus_mm / FOLD_PITCH_MM).astype(np.float32, copy=False))
    side = _without_islands((noise > 0).astype(np.uint8))
    edge = cv2.morphologyEx(side, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    distance = cv2.distanceTransform(1 - edge, cv2.DIST_L2, 5).astype(np.float32) * np.float32(FOLD_PITCH_MM)
    width = cv2.GaussianBlur(rng.standard_normal((64, 64), dtype=np.float32), (0, 0), 1.2)
    width = np.exp(0.42 * width / width.std()).astype(np.float32)
    return distance, cv2.resize(width, (FOLD_MAP, FOLD_MAP), interpolation=cv2.INTER_LINEAR)


def _without_islands(side: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Small patches take their surroundings' side: no sulcus closes on itself around a few millimetres."""
    for value in (0, 1):
        _, labels, stats, _ = cv2.connectedComponentsWithStats((side == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < _ISLAND
        small[0] = False
        side = np.where(small[labels], 1 - value, side).astype(np.uint8)
    return side


def _radial(noise: Array) -> Array:
    """Stretch the pattern away from the vertex: sulci that run down the convexity cross every axial slice."""
    size, centre = (FOLD_MAP // 2, FOLD_MAP * 2), (FOLD_MAP / 2, FOLD_MAP / 2)
    polar = cv2.warpPolar(noise, size, centre, FOLD_MAP / 2, cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS)
    polar = cv2.GaussianBlur(polar, (0, 0), sigmaX=8.0, sigmaY=0.6)
    flags = cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS | cv2.WARP_INVERSE_MAP
    stretched = cv2.warpPolar(polar, (FOLD_MAP, FOLD_MAP), centre, FOLD_MAP / 2, flags)
    steps = np.arange(FOLD_MAP, dtype=np.float32) - FOLD_MAP / 2
    away = np.sqrt(steps[:, None] ** 2 + steps[None, :] ** 2)
    share = np.clip((away - 30) / 80, 0, 0.65) * (away < FOLD_MAP / 2 - 4)
    mixed: Array = (noise / noise.std() * (1 - share) + stretched / stretched.std() * share).astype(np.float32)
    return mixed


def fold_coordinates(x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """Columns and rows of `draw_folds` at which head points fall, given relative to `FOLD_CENTRE_Z_MM`."""
    length = np.sqrt(x * x + y * y + z * z) + np.float32(1e-3)
    scale = _FOLD_RADIUS_MM / FOLD_PITCH_MM * np.sqrt(2.0 / np.maximum(1.0 + z / length, 0.15)) / length
    scale = scale.astype(np.float32, copy=False)
    return x * scale + FOLD_MAP / 2, y * scale + FOLD_MAP / 2

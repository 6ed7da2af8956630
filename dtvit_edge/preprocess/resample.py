"""Pillow's 8-bit resize and the centre crop, as weights computed once on the host; whoever applies them, in integers.

The filters are those of Pillow's `Image.resize` (Resample.c), BILINEAR or BICUBIC, antialiased: weights in float64,
normalised, rounded to 22-bit fixed point; horizontal pass first, then vertical, rounded to bytes between. The order is
part of the contract: Pillow 13 turned it round for images that shrink more in height than twice in width, so a tall
matrix is pinned to two Pillow calls, width first. The crop comes after the resize, but only the rows and columns that
it keeps are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import PreprocessSpec

PRECISION_BITS = 22  # Resample.c: 32 - 8 - 2; sums of 8-bit pixels stay below 2^31


@dataclass(frozen=True)
class AxisWeights:
    """The taps of one axis, already restricted to the crop.

    Attributes:
        start: (n,) int32, first source index of each output.
        taps: (n, k) int32 fixed-point weights; k is the widest filter, unused taps are 0.
    """

    start: NDArray[np.int32]
    taps: NDArray[np.int32]


@dataclass(frozen=True)
class ResamplePlan:
    """Everything that resize and crop need for one matrix size: columns' and rows' taps."""

    horizontal: AxisWeights
    vertical: AxisWeights


def resized_shape(rows: int, columns: int, shorter: int) -> tuple[int, int]:
    """The size after resizing the shorter side to `shorter`, torchvision's rule: (rows, columns)."""
    if rows <= columns:
        return shorter, int(shorter * columns / rows)
    return int(shorter * rows / columns), shorter


def crop_offset(length: int, crop: int) -> int:
    """First kept index of a centre crop; Python's round, half to even, as in torchvision's center_crop."""
    return round((length - crop) / 2.0)


@lru_cache(maxsize=32)
def resample_plan(rows: int, columns: int, spec: PreprocessSpec, crop: bool = True) -> ResamplePlan:
    """The plan for a matrix of `rows` x `columns` stored pixels; without `crop`, of the whole resized image.

    Raises:
        ConfigError: no resize and a matrix smaller than the crop (the paper's literal crop).
    """
    if spec.resize is None:
        if min(rows, columns) < spec.least_side:
            raise ConfigError(f"a {rows} x {columns} matrix is smaller than the crop of {spec.crop} and resize is off")
        out_rows, out_columns = rows, columns
    elif spec.fit == "squash":
        out_rows = out_columns = spec.resize
    else:
        out_rows, out_columns = resized_shape(rows, columns, spec.resize)
    horizontal, vertical = (
        filter_weights(columns, out_columns, spec.filter),
        filter_weights(rows, out_rows, spec.filter),
    )
    if not crop:
        return ResamplePlan(horizontal, vertical)
    return ResamplePlan(_cropped(horizontal, spec.crop), _cropped(vertical, spec.crop))


@lru_cache(maxsize=64)
def filter_weights(source: int, target: int, name: str = "bilinear") -> AxisWeights:
    """Fixed-point weights of one axis, `precompute_coeffs` and `normalize_coeffs_8bpc` of Resample.c.

    Args:
        name: `bilinear` or `bicubic`.
    """
    reach, weigh = _KERNELS[name]
    if source == target:  # Pillow skips the pass; one tap of weight 1 is the identity
        return AxisWeights(np.arange(source, dtype=np.int32), np.full((source, 1), 1 << PRECISION_BITS, dtype=np.int32))
    scale = source / target
    shrink = max(scale, 1.0)
    support = reach * shrink
    width = math.ceil(support) * 2 + 1
    start = np.zeros(target, dtype=np.int32)
    taps = np.zeros((target, width), dtype=np.int32)
    for out in range(target):
        center = (out + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), source)
        position = (np.arange(first, last, dtype=np.float64) - center + 0.5) * (1.0 / shrink)
        weights = weigh(np.abs(position))
        total = 0.0
        for weight in weights:  # summed in order: a pairwise sum differs in the last bit
            total += float(weight)
        if total != 0.0:
            weights = weights / total
        start[out] = first
        # Rounded away from zero at halves: a cast after adding 0.5 with the weight's own sign.
        taps[out, : last - first] = np.trunc(weights * (1 << PRECISION_BITS) + np.copysign(0.5, weights)).astype(
            np.int32
        )
    start.flags.writeable = taps.flags.writeable = False
    return AxisWeights(start, taps)


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(1.0 - distance, 0.0, None)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = -0.5, in the order of operations of Resample.c."""
    a = -0.5
    near = ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


# By filter: how far it reaches, and its weight at a distance.
_KERNELS: dict[str, tuple[float, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _cubic),
}


def _cropped(axis: AxisWeights, crop: int) -> AxisWeights:
    offset = crop_offset(len(axis.start), crop)
    return AxisWeights(axis.start[offset : offset + crop], axis.taps[offset : offset + crop])

"""What golden slices are made of, in NumPy alone: `make test-wheel` writes its bundles with it, without PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.spec import PixelEncoding

Logits = dict[str, NDArray[np.float64]]


def as_stored(hu: NDArray[np.int16], encoding: PixelEncoding) -> NDArray[np.uint16]:
    """HU as the patterns that a file of an encoding holds, (rows, columns) uint16; unused low bits hold junk."""
    values = np.rint((hu.astype(np.float64) - encoding.intercept) / encoding.slope).astype(np.int64)
    least = -(1 << (encoding.bits_stored - 1)) if encoding.signed else 0
    values = values.clip(least, least + (1 << encoding.bits_stored) - 1)
    if encoding.padding is not None:
        rows, columns = np.ogrid[: hu.shape[0], : hu.shape[1]]
        middle, radius = (hu.shape[0] - 1) / 2, min(hu.shape) / 2
        outside = (rows - middle) ** 2 + (columns - (hu.shape[1] - 1) / 2) ** 2 > radius**2
        values = np.where(outside, encoding.padding[0], values)
    shift = encoding.high_bit + 1 - encoding.bits_stored
    junk = (1 << shift) - 1
    return ((values << shift) & 0xFFFF | junk).astype(np.uint16)


def spread_of(logits: Logits) -> dict[str, float]:
    """The largest standard deviation of a logit between slices, by output."""
    return {name: float(values.std(axis=0).max()) for name, values in logits.items()}

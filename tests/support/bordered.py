"""Slices with empty patches, for models that leave these out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SLICES = 5


def bordered(channels: int = 1) -> NDArray[np.uint8]:
    """(5, channels, 224, 224) uint8: two with empty borders, one all 0, one all of another value, one without any.

    The first has an empty patch within, and one of which a single pixel is not empty.
    """
    pixels = np.random.default_rng(7).integers(0, 256, (SLICES, channels, 224, 224), np.uint8)
    pixels[0, :, :40] = pixels[0, :, 200:] = pixels[0, :, :, :64] = 0
    pixels[0, :, 96:112, 96:112] = 0
    pixels[0, :, 112:128, 112:128] = 0
    pixels[0, :, 120, 120] = 1
    pixels[1, :, :, 100:] = 0
    pixels[2] = 0
    pixels[3] = 9
    pixels[4] = np.maximum(pixels[4], 1)
    pixels[4, :, 0, 0] = 0
    return pixels

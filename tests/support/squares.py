"""A set that is quickly learnt, in two sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.spec import PreprocessSpec
from evaluation.images import ImageSet
from evaluation.labels import LabelledSlice

# What convolutional encoders are trained on here: a twelfth of the pixels, and they learn the squares as well.
SMALL = PreprocessSpec(resize=73, crop=64)


@pytest.fixture(scope="session")
def squares() -> ImageSet:
    """24 patients' squares at the default size."""
    return make_squares(256)


@pytest.fixture(scope="session")
def small_squares() -> ImageSet:
    """The same for `SMALL`."""
    assert SMALL.resize is not None
    return make_squares(SMALL.resize)


def make_squares(side: int) -> ImageSet:
    """Noise with an outlined bright square in one of three corners, or none: 24 patients of 4 slices, most deep."""
    rng = np.random.default_rng(0)
    near, far, width = (round(side * share) for share in (60 / 256, 160 / 256, 48 / 256))
    slices, images, masks = [], [], []
    for i in range(96):
        location = (0, 1, None, 0, None, None, 2, 1, None, 0, None, None)[i % 12]
        image = rng.integers(60, 100, (1, side, side), dtype=np.uint8)
        mask = np.zeros((side, side), np.uint8)
        if location is not None:
            y, x = ((near, near), (near, far), (far, near))[location]
            image[0, y : y + width, x : x + width] = 230
            mask[y : y + width, x : x + width] = 1
        slices.append(LabelledSlice(Path("x"), str(i), f"P{i // 4}", location is not None, location))
        images.append(image)
        masks.append(mask)
    return ImageSet(slices, images, "squares", masks)

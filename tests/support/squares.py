"""One thread each (two workers with two threads each fight over two cores), and a set that is quickly learnt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.images import ImageSet
from evaluation.labels import LabelledSlice


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def squares() -> ImageSet:
    """Noise with an outlined bright square in one of three corners, or none: 24 patients of 4 slices, most deep."""
    rng = np.random.default_rng(0)
    slices, images, masks = [], [], []
    for i in range(96):
        location = (0, 1, None, 0, None, None, 2, 1, None, 0, None, None)[i % 12]
        image = rng.integers(60, 100, (1, 256, 256), dtype=np.uint8)
        mask = np.zeros((256, 256), np.uint8)
        if location is not None:
            y, x = ((60, 60), (60, 160), (160, 60))[location]
            image[0, y : y + 48, x : x + 48] = 230
            mask[y : y + 48, x : x + 48] = 1
        slices.append(LabelledSlice(Path("x"), str(i), f"P{i // 4}", location is not None, location))
        images.append(image)
        masks.append(mask)
    return ImageSet(slices, images, "squares", masks)

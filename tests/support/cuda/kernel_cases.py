"""Slices that a mask is worst at, and the question whether a launch gives what the CPU path gives."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec
from tests.support.cuda import harness
from tests.support.preprocess_cases import PLAIN, SIGNED

Slices = list[tuple[NDArray[np.uint16], PixelEncoding]]


def same(library: ctypes.CDLL, slices: Slices, spec: PreprocessSpec, **options: Any) -> bool:
    """Does one batch give what the CPU path gives, slice by slice?"""
    launched = harness.launch(library, slices, spec, **options)
    prepare = CpuPreprocessor(spec)
    equal = True
    for (stored, encoding), pixels, stats in zip(slices, launched.pixels, launched.stats, strict=True):
        expected = prepare(stored, encoding)
        share = stats["brain"] / stats["head"] if stats["head"] else 0.0
        equal &= stats["status"] == kernel.PREPARED
        equal &= np.array_equal(pixels, expected.pixels) and stats["head"] == expected.head_pixels
        equal &= share == expected.brain_share
    return bool(equal)


def noise(seed: int) -> tuple[NDArray[np.uint16], PixelEncoding]:
    """Noise of one of several grains, sizes odd and even, dense and sparse."""
    rng = np.random.default_rng(seed)
    rows, columns = (int(n) for n in rng.integers(32, 200, 2))
    grain = int(rng.choice([1, 2, 5, 9]))
    coarse = rng.normal(0, 1, (rows // grain + 1, columns // grain + 1))
    image = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    hu = np.where(image > rng.uniform(-1.5, 1.0), 40, -1000) + rng.normal(0, rng.uniform(0, 40), image.shape)
    return hu.astype(np.int16).view(np.uint16), SIGNED


@lru_cache(maxsize=1)
def heads() -> Slices:
    """Small and large by turns: masks with holes, zeros at the border that are none, squares and one a row larger."""
    by_size = sorted(range(200), key=lambda seed: CpuPreprocessor(PLAIN)(*noise(seed)).head_pixels)
    squares = np.full((300, 320), -1000, np.int16)
    for i in range(4):
        for j in range(5):
            squares[10 + 70 * i :, 12 + 60 * j :][: 40 + (i == j == 2), :40] = 40 + 10 * i
    noisy = [noise(seed) for seed in by_size[-4:]]
    return [noisy[0], (squares.view(np.uint16), SIGNED), noisy[1], noise(by_size[0]), noisy[2], noisy[3]]


def combs() -> dict[str, Slices]:
    """Heads that an erosion turns into teeth a pixel wide, as many as can be labelled: what a union is worst at."""
    length, found = 316, {}
    for name, (above, below) in {"bar above": (1, 0), "bar below": (0, 1), "both": (1, 1), "none": (0, 0)}.items():
        image = np.full((512, 512), 40, np.int16)
        top = 60 * above
        image[top : top + length, 10::10] = -1000
        image[:top] = 40
        if not below:
            image[top + length :] = -1000
        found[name] = image
    merging, stairs = (np.full((512, 512), 40, np.int16) for _ in range(2))
    for tooth, column in enumerate(range(10, 512, 10)):
        level = (tooth & -tooth).bit_length()  # neighbours join first, then pairs of them, and so on
        merging[: 180 + 20 * level if level < 7 else 500, column] = -1000
        stairs[: 210 + 4 * tooth, column] = -1000
    zigzag, grid = (np.full((512, 512), 40, np.int16) for _ in range(2))
    zigzag[:310, 10::20] = zigzag[8:318, 20::20] = zigzag[:10] = -1000
    grid[::12, ::12] = -1000  # what is left after erosion has forty runs a row
    found |= {"merging": merging, "stairs": stairs, "other stairs": stairs[:, ::-1].copy(), "zigzag": zigzag}
    found["grid"] = grid
    return {name: [(image.view(np.uint16), SIGNED)] for name, image in found.items()}

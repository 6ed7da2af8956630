"""Slices, encodings and specs by seed: what a mask and a resize are worst at, in small matrices of any shape."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.spec import MAX_MATRIX, MIN_MATRIX, PixelEncoding, PreprocessSpec, Window, WindowKind
from tests.support.preprocess_cases import Case, store

Image = NDArray[np.bool_]


def fuzz_case(seed: int) -> Case:
    """One case; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    spec, encoding = _spec(rng), _encoding(rng)
    least = spec.least_side
    rows, columns = (int(n) for n in rng.integers(least, max(least, 180) + 60, 2))
    if rng.random() < 0.1:
        rows, columns = sorted((least, int(rng.integers(least, MAX_MATRIX + 1))), reverse=bool(rng.random() < 0.5))
    kind = str(rng.choice(list(_KINDS)))
    stored = _stored(rng, _KINDS[kind](rng, rows, columns), encoding)
    return Case(f"{seed} {kind} {rows}x{columns}", stored, encoding, spec)


def spiral(rows: int, columns: int, wall: int, gap: int) -> Image:
    """A wall that winds inwards, and the way beside it that the outside takes to the middle."""
    image = np.zeros((rows, columns), bool)
    top, left, bottom, right = 0, 0, rows, columns
    step = wall + gap
    while bottom - top > 2 * step and right - left > 2 * step:
        image[top : top + wall, left:right] = True
        image[top:bottom, right - wall : right] = True
        image[bottom - wall : bottom, left + step : right] = True
        image[top + step : bottom, left + step : left + step + wall] = True
        top, left, bottom, right = top + step, left + step, bottom - step, right - step
    return image


def comb(rows: int, columns: int, tooth: int, gap: int, *, upwards: bool) -> Image:
    """Teeth that meet in one bar alone: as many runs a row as fit, united in the last row."""
    image = np.zeros((rows, columns), bool)
    image[:, np.arange(columns) % (tooth + gap) < tooth] = True
    image[slice(0, tooth) if upwards else slice(rows - tooth, rows)] = True
    return image


def _noise(rng: np.random.Generator, rows: int, columns: int) -> Image:
    return np.asarray(rng.random((rows, columns)) < rng.choice([0.02, 0.3, 0.5, 0.9, 0.98, 1.0]))


def _blobs(rng: np.random.Generator, rows: int, columns: int) -> Image:
    field = cv2.GaussianBlur(rng.normal(size=(rows, columns)).astype(np.float32), (0, 0), float(rng.uniform(1, 9)))
    return np.asarray(field > rng.normal(0, 0.5) * field.std())


def _twins(rng: np.random.Generator, rows: int, columns: int) -> Image:
    """Equal squares anywhere, some of which touch."""
    image = np.zeros((rows, columns), bool)
    side = int(rng.integers(9, 16))
    for _ in range(int(rng.integers(2, 9))):
        y, x = int(rng.integers(0, rows)), int(rng.integers(0, columns))
        image[y : y + side, x : x + side] = True
    return image


def _holes(rng: np.random.Generator, rows: int, columns: int) -> Image:
    return np.asarray(_blobs(rng, rows, columns) | (rng.random((rows, columns)) < 0.97))


def _spiral(rng: np.random.Generator, rows: int, columns: int) -> Image:
    return spiral(rows, columns, int(rng.integers(1, 14)), int(rng.integers(1, 6)))


def _comb(rng: np.random.Generator, rows: int, columns: int) -> Image:
    image = comb(rows, columns, int(rng.integers(1, 12)), int(rng.integers(1, 6)), upwards=bool(rng.random() < 0.5))
    return image if rng.random() < 0.5 else comb(columns, rows, 10, 2, upwards=True).T


def _constant(rng: np.random.Generator, rows: int, columns: int) -> Image:
    return np.full((rows, columns), bool(rng.random() < 0.5))


_KINDS: dict[str, Callable[[np.random.Generator, int, int], Image]] = {
    "noise": _noise, "blobs": _blobs, "twins": _twins, "holes": _holes, "spiral": _spiral, "comb": _comb,
    "constant": _constant,
}  # fmt: skip


def _stored(rng: np.random.Generator, image: Image, encoding: PixelEncoding) -> NDArray[np.uint16]:
    """Patterns of tissue and air with noise, or any at all."""
    if rng.random() < 0.15:
        return rng.integers(0, 1 << 16, image.shape, dtype=np.uint16)
    spread = rng.normal(0, rng.choice([0.0, 5.0, 40.0]), image.shape)
    hu = np.where(image, 40.0, -1000.0 if rng.random() < 0.8 else 2.0) + spread
    return store(hu, encoding, junk=int(rng.integers(0, 1 << 16)))


def _encoding(rng: np.random.Generator) -> PixelEncoding:
    bits = int(rng.choice([8, 12, 13, 16]))
    return PixelEncoding(
        bits_stored=bits,
        high_bit=int(rng.integers(bits - 1, 16)) if rng.random() < 0.3 else bits - 1,
        signed=bool(rng.random() < 0.5),
        slope=float(rng.choice([1.0, 1.0, 0.37, -1.0])),
        intercept=float(rng.choice([0.0, -1024.0])),
        padding=None if rng.random() < 0.7 else (int(rng.integers(-2000, 100)), int(rng.integers(-2000, 3000))),
    )


def _spec(rng: np.random.Generator) -> PreprocessSpec:
    if rng.random() < 0.3:
        return PreprocessSpec(device_mask=bool(rng.random() < 0.5))
    radius = int(rng.integers(0, 16 if rng.random() < 0.2 else 5))
    crop = int(rng.integers(MIN_MATRIX, 130))
    fit = str(rng.choice(["shorter", "squash"]))
    resize = crop + int(rng.integers(0, 120)) if fit == "squash" or rng.random() < 0.8 else None
    channels = int(rng.integers(1, 4))
    windows = tuple(
        Window(float(rng.integers(-50, 200)), float(rng.integers(2, 400)), rng.choice(list(WindowKind)))
        for _ in range(channels)
    )
    low, high = sorted(rng.integers(-20, 120, 2).tolist())
    return PreprocessSpec(
        windows=windows,
        mask_threshold=int(rng.choice([0, 10, 10, 60, 127, 254])),
        disk_half_widths=tuple(int(w) for w in rng.integers(0, radius + 1, 2 * radius + 1)),
        edge_columns=int(rng.choice([0, 1, 8, 40])),
        resize=resize,
        crop=crop,
        brain_range_hu=(float(low), float(high)),
        mean=(0.5,) * channels,
        std=(0.2,) * channels,
        fit=fit,
        filter=str(rng.choice(["bilinear", "bicubic"])),
        device_mask=bool(rng.random() < 0.7),
    )

"""The dull reference that judges every preprocessing path: Pillow, torchvision, and straightforward NumPy and SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import export._torchvision  # noqa: F401  (makes torchvision importable beside a CPU torch)
from dtvit_edge.spec import PixelEncoding, PreprocessSpec, Window, WindowKind

from torchvision.transforms import InterpolationMode  # isort: skip
from torchvision.transforms.functional import (  # isort: skip
    _compute_resized_output_size,
    center_crop,
    resize,
)

EIGHT = np.ones((3, 3), dtype=bool)


def reference_bytes(stored: NDArray[np.uint16], encoding: PixelEncoding, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Stored patterns (rows, columns) to model bytes (C, crop, crop)."""
    channels = [reference_window(stored, encoding, window) for window in spec.windows]
    mask = reference_mask(channels[0], spec)
    if not spec.device_mask:
        mask = np.full_like(mask, mask.any())
    return np.stack([reference_resize(np.where(mask, c, 0).astype(np.uint8), spec) for c in channels])


def reference_window(stored: NDArray[np.uint16], encoding: PixelEncoding, window: Window) -> NDArray[np.uint8]:
    """Pixel by pixel, without a table; the window's pieces as PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2 write them."""
    value = stored.astype(np.int64) // 2 ** (encoding.high_bit + 1 - encoding.bits_stored)
    value = value % 2**encoding.bits_stored
    if encoding.signed:
        value = np.where(value >= 2 ** (encoding.bits_stored - 1), value - 2**encoding.bits_stored, value)
    if encoding.windowed:
        return value.astype(np.uint8)
    x = value * encoding.slope + encoding.intercept
    c, w = window.center_hu, window.width_hu
    if window.kind is WindowKind.LINEAR:
        y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
        y = np.where(x <= c - 0.5 - (w - 1) / 2, 0, np.where(x > c - 0.5 + (w - 1) / 2, 255, y))
    else:
        y = ((x - c) / w + 0.5) * 255
        y = np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 255, y))
    y = np.floor(y + 0.5)
    if encoding.padding is not None:
        low, high = min(encoding.padding), max(encoding.padding)
        y = np.where((value >= low) & (value <= high), 0, y)
    return y.astype(np.uint8)


def reference_mask(image: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.bool_]:
    radius = len(spec.disk_half_widths) // 2
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = dx * dx + dy * dy <= radius * radius
    assert disk.sum() == 49
    binary = image > spec.mask_threshold
    eroded = ndimage.binary_erosion(binary, disk, border_value=0)
    eroded[:, : spec.edge_columns] = False
    eroded[:, image.shape[1] - spec.edge_columns :] = False
    labels, count = ndimage.label(eroded, EIGHT)
    if count == 0:
        return np.zeros_like(binary)
    flat = labels.ravel()
    areas = np.bincount(flat, minlength=count + 1)
    firsts = {label: int(np.argmax(flat == label)) for label in np.flatnonzero(areas == areas[1:].max()) if label}
    largest = labels == min(firsts, key=firsts.__getitem__)
    grown = ndimage.binary_dilation(largest, disk, border_value=0) & binary
    return np.asarray(ndimage.binary_fill_holes(grown))


def reference_resize(image: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Two Pillow calls, width first: Pillow 13 alone would do tall images height first (Resample.c)."""
    picture = Image.fromarray(image)
    if spec.resize is not None:
        rows, columns = _compute_resized_output_size(image.shape, [spec.resize])
        if spec.fit == "squash":
            rows = columns = spec.resize
        kind = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[spec.filter]
        picture = picture.resize((columns, image.shape[0]), kind).resize((columns, rows), kind)
    return np.asarray(center_crop(picture, [spec.crop, spec.crop]))


def torchvision_resize(image: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """What a training script would do: torchvision's resize and centre crop of a PIL image."""
    picture = resize(Image.fromarray(image), [spec.resize], InterpolationMode.BILINEAR, antialias=True)
    return np.asarray(center_crop(picture, [spec.crop, spec.crop]))

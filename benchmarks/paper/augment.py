"""Augmentation as in section 2.2.3 of the paper, on bytes between resize and crop.

Random rotation within 15 degrees, random sharpness of factor 2, centre crop to 224; normalisation happens once, later.
Without augmentation the crop alone is left, and gives the bytes of the runtime's own preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

import export._torchvision  # noqa: F401 - makes torchvision importable beside a CPU torch
from dtvit_edge.spec import PreprocessSpec

from torchvision.transforms import v2  # isort: skip

Transform = Callable[[Tensor], Tensor]

ROTATION_DEG = 15
SHARPNESS_FACTOR = 2
SHARPNESS_PROBABILITY = 0.5


def evaluation(spec: PreprocessSpec) -> Transform:
    """(C, h, w) uint8 to (C, crop, crop) uint8: the centre crop."""
    crop: Transform = v2.CenterCrop(spec.crop)
    return crop


def training(spec: PreprocessSpec) -> Transform:
    """(C, h, w) uint8 to (C, crop, crop) uint8, drawn anew at each call from torch's global generator."""
    composed: Transform = v2.Compose(
        [
            v2.RandomRotation(ROTATION_DEG, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomAdjustSharpness(SHARPNESS_FACTOR, SHARPNESS_PROBABILITY),
            v2.CenterCrop(spec.crop),
        ]
    )
    return composed

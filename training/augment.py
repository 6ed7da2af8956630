"""Augmentation as in section 2.2.3 of the paper, on bytes between resize and crop.

Random rotation within 15 degrees, random sharpness of factor 2, centre crop to 224; normalisation happens once, later.
Without augmentation the crop alone is left, and gives the bytes of the runtime's own preprocessing. A mask given beside
an image is turned and cropped with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import export._torchvision  # noqa: F401 - makes torchvision importable beside a CPU torch
from dtvit_edge.spec import PreprocessSpec
from evaluation.images import ImageSet

from torchvision import tv_tensors  # isort: skip
from torchvision.transforms import v2  # isort: skip

Transform = Callable[..., Any]

ROTATION_DEG = 15
SHARPNESS_FACTOR = 2
SHARPNESS_PROBABILITY = 0.5


def evaluation(spec: PreprocessSpec) -> Transform:
    """(C, h, w) uint8 to (C, crop, crop) uint8: the centre crop."""
    crop: Transform = v2.CenterCrop(spec.crop)
    return crop


def training(spec: PreprocessSpec, *, augment: bool = True, flip: bool = False) -> Transform:
    """(C, h, w) uint8 to (C, crop, crop) uint8, drawn anew at each call from torch's global generator.

    Args:
        augment: the paper's rotation and sharpness; flip: a mirror image every other time.
    """
    steps: list[torch.nn.Module] = []
    if augment:
        steps += [
            v2.RandomRotation(ROTATION_DEG, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomAdjustSharpness(SHARPNESS_FACTOR, SHARPNESS_PROBABILITY),
        ]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    composed: Transform = v2.Compose([*steps, v2.CenterCrop(spec.crop)])
    return composed


def batch(data: ImageSet, chosen: Sequence[int], transform: Transform, *, masks: bool = False) -> tuple[Tensor, Any]:
    """Images (N, C, crop, crop) uint8, and their masks (N, crop, crop) uint8 if asked for, else None."""
    if not masks or data.masks is None:
        return torch.stack([transform(torch.from_numpy(data.images[i])) for i in chosen]), None
    pairs = [
        transform(tv_tensors.Image(torch.from_numpy(data.images[i])), tv_tensors.Mask(torch.from_numpy(data.masks[i])))
        for i in chosen
    ]
    return (
        torch.stack([image.as_subclass(Tensor) for image, _ in pairs]),
        torch.stack([mask.as_subclass(Tensor) for _, mask in pairs]),
    )

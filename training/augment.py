"""Augmentation as in section 2.2.3 of the paper, on bytes between resize and crop.

Random rotation within 15 degrees, random sharpness of factor 2, centre crop to 224; normalisation happens once, later.
Without augmentation the crop alone is left, and gives the bytes of the runtime's own preprocessing. A mask given beside
an image is turned and cropped with it. `training` takes an image at a time, by torchvision; `together` does the same to
a whole batch at once, which a GPU needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

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


def together(
    pixels: Tensor, masks: Tensor | None, spec: PreprocessSpec, *, augment: bool = True, flip: bool = False
) -> tuple[Tensor, Tensor | None]:
    """`training` on a batch at once, with a draw of its own for each image.

    Args:
        pixels: (N, C, h, w) uint8; masks: (N, h, w) uint8. The draws come from the global generator of their device.

    Returns:
        (N, C, crop, crop) and (N, crop, crop) uint8.
    """
    count, device = len(pixels), pixels.device
    if augment:
        degrees = torch.empty(count, device=device).uniform_(-ROTATION_DEG, ROTATION_DEG)
        pixels = rotated(pixels, degrees)
        masks = None if masks is None else rotated(masks[:, None], degrees, mode="nearest")[:, 0]
        chosen = torch.rand(count, device=device) < SHARPNESS_PROBABILITY
        pixels = torch.where(chosen[:, None, None, None], sharpened(pixels), pixels)
    if flip:
        mirrored = torch.rand(count, device=device) < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        masks = None if masks is None else torch.where(mirrored[:, None, None], masks.flip(-1), masks)
    crop = evaluation(spec)
    return crop(pixels), None if masks is None else crop(masks)


def rotated(images: Tensor, degrees: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Each image turned counter-clockwise about its centre by its own angle, black where nothing was.

    Args:
        images: (N, C, h, w) uint8; degrees: (N,) float32.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(degrees)[:, None, None]
    x = torch.linspace((1 - width) / 2, (width - 1) / 2, width, device=images.device)[None, None, :]
    y = torch.linspace((1 - height) / 2, (height - 1) / 2, height, device=images.device)[None, :, None]
    cos, sin = angle.cos(), angle.sin()
    grid = torch.stack([(x * cos - y * sin) * (2 / width), (x * sin + y * cos) * (2 / height)], 3)
    turned = grid_sample(images.float(), grid, mode=mode, padding_mode="zeros", align_corners=False)
    return turned.round_().to(images.dtype)


def sharpened(images: Tensor) -> Tensor:
    """(N, C, h, w) uint8, each as far from its blur again as it was: torchvision's sharpness of 2.

    torchvision's own makes its kernel on the host at every call, for which a GPU would have to be waited for.
    """
    sharp = images.float()
    inside = sharp[..., 1:-1, 1:-1]
    blur = ((avg_pool2d(sharp, 3, 1) * 9 + inside * 4) / 13).round_()  # ones around a 5, over 13
    inside += (SHARPNESS_FACTOR - 1) * (inside - blur)
    return sharp.clamp_(0, 255).to(images.dtype)

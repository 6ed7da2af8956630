"""The CPU path on OpenCV and NumPy. Every other path is compared with it, bit for bit."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess.mask import head_mask
from dtvit_edge.preprocess.resample import PRECISION_BITS, AxisWeights, ResamplePlan, resample_plan
from dtvit_edge.preprocess.rescale_table import brain_bytes, rescale_table
from dtvit_edge.spec import PixelEncoding, PreprocessSpec

_ROUNDING = 1 << (PRECISION_BITS - 1)


def prepare(
    stored: NDArray[np.uint16], encoding: PixelEncoding, spec: PreprocessSpec, crop: bool
) -> tuple[NDArray[np.uint8], int, int]:
    """One slice: its bytes (C, h, w), the pixels of its head, and those of them that are brain."""
    table = rescale_table(encoding, spec)
    first = np.take(table[0], stored)
    mask = head_mask(first, spec)
    head = cv2.bitwise_and(first, first, mask=mask)
    head_pixels = cv2.countNonZero(mask)
    plan = resample_plan(*stored.shape, spec, crop)
    pixels = np.zeros((spec.channels, len(plan.vertical.start), len(plan.horizontal.start)), dtype=np.uint8)
    if head_pixels == 0:
        return pixels, 0, 0
    low, high = brain_bytes(spec)
    # A brain range that begins at byte 0 would count the outside, which cv2 cannot mask here.
    brain_pixels = cv2.countNonZero(cv2.inRange(head, max(low, 1), high))
    pixels[0] = resample(head if spec.device_mask else first, plan)
    for channel in range(1, spec.channels):
        image = np.take(table[channel], stored)
        pixels[channel] = resample(image * mask if spec.device_mask else image, plan)
    return pixels, head_pixels, brain_pixels


def resample(image: NDArray[np.uint8], plan: ResamplePlan) -> NDArray[np.uint8]:
    """Resize and crop one channel: (rows, columns) uint8 to the plan's size, uint8, C-contiguous."""
    horizontal, vertical = plan.horizontal, plan.vertical
    top = int(vertical.start.min())
    bottom = int((vertical.start + vertical.taps.shape[1]).max())
    # Transposed, so that both passes gather whole rows, which are contiguous.
    columns = _apply(cv2.transpose(image[top : min(bottom, image.shape[0])]), horizontal, 0)
    return _apply(cv2.transpose(columns), vertical, top)


def _apply(image: NDArray[np.uint8], axis: AxisWeights, offset: int) -> NDArray[np.uint8]:
    """One pass over axis 0; `offset` is the source index of the image's first row."""
    last = image.shape[0] - 1
    total = np.full((len(axis.start), image.shape[1]), _ROUNDING, dtype=np.int32)
    scratch = np.empty_like(total)
    for tap in range(axis.taps.shape[1]):
        weights = axis.taps[:, tap]
        if weights.any():
            rows = np.minimum(axis.start - offset + tap, last)  # taps beyond the edge have weight 0
            np.multiply(image[rows], weights[:, None], out=scratch)
            total += scratch
    total >>= PRECISION_BITS
    return np.clip(total, 0, 255, out=total).astype(np.uint8)  # bicubic's negative weights overshoot

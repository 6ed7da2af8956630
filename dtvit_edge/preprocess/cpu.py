"""The CPU path on OpenCV and NumPy. Every other path is compared with it, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess.mask import head_mask
from dtvit_edge.preprocess.resample import resample, resample_plan
from dtvit_edge.preprocess.rescale_table import brain_bytes, rescale_table
from dtvit_edge.spec import PixelEncoding, PreprocessSpec


@dataclass(frozen=True)
class PreparedSlice:
    """One slice as the model takes it.

    Attributes:
        pixels: (C, crop, crop) uint8, C-contiguous; all 0 where there is no head. Without the crop (C, h, w).
        head_pixels: pixels of the head's mask, of the stored matrix.
        brain_share: share of those whose first channel lies in the spec's brain range; 0 where there is no head.
    """

    pixels: NDArray[np.uint8]
    head_pixels: int
    brain_share: float

    @property
    def has_head(self) -> bool:
        """False where the mask is empty."""
        return self.head_pixels > 0


class CpuPreprocessor:
    """Stored pixels -> table -> mask -> resize -> crop -> bytes, one slice at a time."""

    def __init__(self, spec: PreprocessSpec) -> None:
        self.spec = spec
        self._brain = brain_bytes(spec)

    def __call__(self, stored: NDArray[np.uint16], encoding: PixelEncoding, *, crop: bool = True) -> PreparedSlice:
        """Prepare one slice.

        Args:
            stored: (rows, columns) uint16, raw patterns as stored (signed values seen as patterns).
            encoding: how patterns become HU; slices of one study may differ.
            crop: False leaves the centre crop to the caller: training rotates between resize and crop.
        """
        spec = self.spec
        table = rescale_table(encoding, spec)
        first = np.take(table[0], stored)
        mask = head_mask(first, spec)
        head = cv2.bitwise_and(first, first, mask=mask)
        head_pixels = cv2.countNonZero(mask)
        plan = resample_plan(*stored.shape, spec, crop)
        pixels = np.zeros((spec.channels, len(plan.vertical.start), len(plan.horizontal.start)), dtype=np.uint8)
        if head_pixels == 0:
            return PreparedSlice(pixels, 0, 0.0)
        # A brain range that begins at byte 0 would count the outside, which cv2 cannot mask here.
        in_range = cv2.inRange(head, max(self._brain[0], 1), self._brain[1])
        pixels[0] = resample(head if spec.device_mask else first, plan)
        for channel in range(1, spec.channels):
            image = np.take(table[channel], stored)
            pixels[channel] = resample(image * mask if spec.device_mask else image, plan)
        return PreparedSlice(pixels, head_pixels, cv2.countNonZero(in_range) / head_pixels)

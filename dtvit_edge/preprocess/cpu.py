"""The CPU path: `native`, a library of this project, where it is here; else `opencv`. They give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess.native import native_plan, takes
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
    """Stored pixels -> table -> mask -> resize -> crop -> bytes, one slice at a time; from any thread.

    Args:
        native: False leaves the library alone.
    """

    def __init__(self, spec: PreprocessSpec, *, native: bool = True) -> None:
        self.spec = spec
        self._native = native

    def __call__(self, stored: NDArray[np.uint16], encoding: PixelEncoding, *, crop: bool = True) -> PreparedSlice:
        """Prepare one slice.

        Args:
            stored: (rows, columns) uint16, raw patterns as stored (signed values seen as patterns).
            encoding: how patterns become HU; slices of one study may differ.
            crop: False leaves the centre crop to the caller: training rotates between resize and crop.

        Raises:
            ConfigError: a matrix or an encoding that the spec does not take.
        """
        plan = None
        if self._native and takes(stored):
            plan = native_plan(*stored.shape, encoding, self.spec, crop)
        if plan is not None:
            pixels, head, brain = plan.prepare(stored)
        else:
            # Imported here: where the library is, a run does without OpenCV, which takes a while to load.
            from dtvit_edge.preprocess import opencv

            pixels, head, brain = opencv.prepare(stored, encoding, self.spec, crop)
        return PreparedSlice(pixels, head, brain / head if head else 0.0)

"""The bundle's preprocessing as a MONAI user would write it: its array transforms, in floats.

The steps and their order are those of `benchmarks.peers.preprocessing`. MONAI erodes and dilates by squares: one of
seven pixels stands for the spec's disk.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Floats
from benchmarks.peers.preprocessing import resized_shape, without_edges
from dtvit_edge.spec import PreprocessSpec, WindowKind

_SQUARE = 7


def prepare(hu: NDArray[np.float32], spec: PreprocessSpec) -> Floats:
    """(rows, columns) HU to (3, crop, crop) float32, normalised."""
    import torch
    from monai.transforms.utils_morphological_ops import dilate, erode

    steps = _transforms(spec)
    image = torch.from_numpy(hu)[None]
    channels = torch.cat([window(image) for window in steps["windows"]])
    binary = (channels[:1] > spec.mask_threshold / 255).float()
    eroded = without_edges(erode(binary[None], filter_size=_SQUARE, pad_value=0.0)[0, 0].numpy(), spec)
    largest = torch.as_tensor(steps["largest"](torch.from_numpy(eroded)[None]))
    mask = steps["fill"](dilate(largest[None].float(), filter_size=_SQUARE, pad_value=0.0)[0] * binary)
    shown = channels * torch.as_tensor(mask)
    if spec.resize is not None:
        shown = _resize(*resized_shape(hu.shape, spec))(shown)
    shown = steps["crop"](shown)
    normalised = steps["normalise"](shown if len(shown) == 3 else shown.repeat(3, 1, 1))
    return np.ascontiguousarray(np.asarray(normalised), dtype=np.float32)


@lru_cache(maxsize=4)
def _transforms(spec: PreprocessSpec) -> dict[str, Any]:
    from monai.transforms import (
        CenterSpatialCrop,
        FillHoles,
        KeepLargestConnectedComponent,
        NormalizeIntensity,
        ScaleIntensityRange,
    )

    windows = []
    for window in spec.windows:
        centre, width = window.center_hu, window.width_hu
        if window.kind is WindowKind.LINEAR:
            centre, width = centre - 0.5, width - 1
        windows.append(ScaleIntensityRange(centre - width / 2, centre + width / 2, 0.0, 1.0, clip=True))
    return {
        "windows": windows,
        "largest": KeepLargestConnectedComponent(applied_labels=[1], connectivity=2),
        "fill": FillHoles(applied_labels=[1], connectivity=1),
        "crop": CenterSpatialCrop((spec.crop, spec.crop)),
        "normalise": NormalizeIntensity(subtrahend=spec.mean, divisor=spec.std, channel_wise=True),
    }


@lru_cache(maxsize=4)
def _resize(rows: int, columns: int) -> Any:
    from monai.transforms import Resize

    return Resize(spatial_size=(rows, columns), mode="area")

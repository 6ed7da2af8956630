"""The bundle's preprocessing as a user would write it: pydicom, then scikit-image or OpenCV, in floats.

The same steps in the same order (window, fixation device removed, resize, centre crop, normalise) by the libraries'
functions. Their resizes are not Pillow's, so that bytes differ by a little; decisions must not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray

from benchmarks.peers import Floats
from dtvit_edge.spec import PreprocessSpec, WindowKind

Mask = NDArray[np.bool_]
Prepare = Callable[[NDArray[np.float32], PreprocessSpec], Floats]


@dataclass(frozen=True)
class Read:
    """A slice by pydicom: its identifiers and its HU, (rows, columns) float32."""

    study: str
    series: str
    sop: str
    hu: NDArray[np.float32]


def read(file: Path) -> Read:
    """Header and pixels of a slice."""
    dataset = pydicom.dcmread(file)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return Read(
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.SOPInstanceUID),
        dataset.pixel_array.astype(np.float32) * slope + intercept,
    )


def scikit_image(hu: NDArray[np.float32], spec: PreprocessSpec) -> Floats:
    """(rows, columns) HU to (3, crop, crop) float32, normalised, by scikit-image and SciPy."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label
    from skimage.morphology import dilation, disk, erosion
    from skimage.transform import resize

    channels = _windowed(hu, spec)
    element = disk(len(spec.disk_half_widths) // 2)
    binary = channels[0] > spec.mask_threshold / 255
    labels = label(without_edges(erosion(binary, element), spec), connectivity=2)
    mask = np.zeros_like(binary)
    if labels.any():
        largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
        mask = binary_fill_holes(dilation(largest, element) & binary)
    shape = resized_shape(hu.shape, spec)
    return _normalised([_cropped(resize(c * mask, shape, order=1, anti_aliasing=True), spec) for c in channels], spec)


def opencv(hu: NDArray[np.float32], spec: PreprocessSpec) -> Floats:
    """The same by OpenCV."""
    channels = _windowed(hu, spec)
    radius = len(spec.disk_half_widths) // 2
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    element = (dx * dx + dy * dy <= radius * radius).astype(np.uint8)
    binary = (channels[0] > spec.mask_threshold / 255).astype(np.uint8)
    eroded = cv2.erode(binary, element, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(without_edges(eroded, spec), connectivity=8)
    mask = np.zeros_like(binary)
    if count > 1:
        largest = (labels == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA])).astype(np.uint8)
        grown = cv2.bitwise_and(cv2.dilate(largest, element), binary)
        outlines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        mask = cv2.drawContours(grown, outlines, -1, 1, cv2.FILLED)
    rows, columns = resized_shape(hu.shape, spec)
    resized = [cv2.resize(c * mask, (columns, rows), interpolation=cv2.INTER_AREA) for c in channels]
    return _normalised([_cropped(image, spec) for image in resized], spec)


def _windowed(hu: NDArray[np.float32], spec: PreprocessSpec) -> list[NDArray[np.float32]]:
    """One image in [0, 1] a window (PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2)."""
    images = []
    for window in spec.windows:
        centre, width = window.center_hu, window.width_hu
        if window.kind is WindowKind.LINEAR:
            centre, width = centre - 0.5, width - 1
        images.append(np.clip((hu - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1))
    return images


def without_edges(eroded: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """(rows, columns) with the spec's columns at both sides set to 0, in place."""
    eroded[:, : spec.edge_columns] = 0
    eroded[:, max(eroded.shape[1] - spec.edge_columns, 0) :] = 0
    return eroded


def resized_shape(shape: tuple[int, ...], spec: PreprocessSpec) -> tuple[int, int]:
    """Rows and columns with the shorter side at `spec.resize`."""
    if spec.resize is None:
        return shape[0], shape[1]
    short = min(shape)
    return int(spec.resize * shape[0] / short), int(spec.resize * shape[1] / short)


def _cropped(image: NDArray[np.float32], spec: PreprocessSpec) -> NDArray[np.float32]:
    top, left = (round((side - spec.crop) / 2) for side in image.shape)
    return image[top : top + spec.crop, left : left + spec.crop]


def _normalised(channels: list[NDArray[np.float32]], spec: PreprocessSpec) -> Floats:
    image = np.stack(channels if len(channels) == 3 else channels * 3)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    return np.ascontiguousarray((image - mean) / std, dtype=np.float32)

"""The head's mask: fixation device removed by the paper's morphological treatment, holes filled.

Binarise, erode with the disk, zero the edge columns, keep the largest 8-connected component, dilate with the same disk,
intersect with the binary image, fill holes. Outside the image counts as 0 for erosion and dilation alike.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.spec import PreprocessSpec

# 16-bit labels hold every component of a 512 x 512 image (at most one per 2 x 2 pixels); larger ones need 32.
_PIXELS_16_BIT = 512 * 512


def head_mask(image: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """The mask of the head, 1 inside and 0 outside.

    Args:
        image: (rows, columns) uint8, the first channel after the table.

    Returns:
        (rows, columns) uint8 of 0 and 1, C-contiguous; all 0 where nothing is left.
    """
    disk = structuring_element(spec.disk_half_widths)
    binary = cv2.threshold(image, spec.mask_threshold, 1, cv2.THRESH_BINARY)[1]
    eroded = cv2.erode(binary, disk, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    eroded[:, : spec.edge_columns] = 0
    eroded[:, max(eroded.shape[1] - spec.edge_columns, 0) :] = 0
    component = largest_component(eroded)
    if component is None:
        return np.zeros_like(binary)
    grown = cv2.dilate(component, disk, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return fill_holes(cv2.bitwise_and(grown, binary))


@lru_cache(maxsize=8)
def structuring_element(half_widths: tuple[int, ...]) -> NDArray[np.uint8]:
    """The element as 0 and 1, (len(half_widths), len(half_widths)) uint8; row r holds 2 * half_widths[r] + 1 ones."""
    radius = len(half_widths) // 2
    offsets = np.abs(np.arange(-radius, radius + 1))
    return (offsets[None, :] <= np.asarray(half_widths)[:, None]).astype(np.uint8)


def largest_component(binary: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The largest 8-connected component as 0 and 1; of equals the one whose first pixel comes first in raster order.

    None where the image is empty.
    """
    depth = cv2.CV_16U if binary.size <= _PIXELS_16_BIT else cv2.CV_32S
    count, labels = cv2.connectedComponents(binary, connectivity=8, ltype=depth)
    if count <= 1:
        return None
    if count == 2:
        return binary.copy()
    areas = _areas(labels, count)
    ties = np.flatnonzero(areas == areas.max()) + 1
    # OpenCV numbers components by blocks, not by first pixel, so equals are told apart by looking.
    winner = int(ties[0]) if len(ties) == 1 else int(labels[np.isin(labels, ties)][0])
    return (labels == winner).view(np.uint8)


def _areas(labels: NDArray[np.uint16] | NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Pixels of each label from 1 on: (count - 1,) int64. Float32 counts are exact below 2^24 pixels."""
    if labels.dtype == np.uint16:
        return cv2.calcHist([labels], [0], None, [count], [0, count]).ravel()[1:].astype(np.int64)
    return np.bincount(labels.ravel(), minlength=count)[1:]


def fill_holes(binary: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill the 0-pixels that are not 4-connected to the outside: (rows, columns) uint8 of 0 and 1.

    Drawing every outer 8-connected contour filled is the same set, and a third of a flood fill's time.
    """
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = binary.copy()
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    return filled

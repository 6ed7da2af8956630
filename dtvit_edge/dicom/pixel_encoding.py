"""How a header says that stored patterns become HU, and what it says that cannot be true (PS3.3 C.7.6.3.1, C.11.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dtvit_edge import reasons
from dtvit_edge.dicom.fast_header import FastHeader
from dtvit_edge.dicom.header_values import Tags, integer, joined, number, text, value
from dtvit_edge.dicom.opening import BYTE_BUDGET
from dtvit_edge.dicom.uids import (
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.spec import MAX_MATRIX, MIN_MATRIX, PixelEncoding

# Scanners write slopes of 1, and a few fractions of it; a 12-bit image of twice the usual range needs 2. At 32, as
# windowed screenshots have it, three grey levels are left in the window. A negative one turns HU upside down.
MOST_SLOPE = 4.0
# A range of padding that reaches into these would turn blood or brain into air; one value alone takes next to nothing.
TISSUE_HU = (-200.0, 2000.0)
_HU_TYPES = ("", "HU", "US")  # US is "unspecified", which CT scanners write as well
_COMPRESSED = "1.2.840.10008.1.2.4."  # all compressed transfer syntaxes but RLE, which is lossless
_LOSSLESS = frozenset(
    {JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, JPEG2000MCLossless, HTJ2KLossless,
     HTJ2KLosslessRPCL}
)  # fmt: skip

Find = Callable[[str, str], Any]


def check_pixels(dataset: Tags, frames: int) -> None:
    """Sizes and format, before anything is decoded.

    Raises:
        SliceRejected: a matrix or a number of bytes that is out of range, or bits that are none of a CT slice.
    """
    rows, columns = int(dataset.get("Rows")), int(dataset.get("Columns"))
    if not all(MIN_MATRIX <= n <= MAX_MATRIX for n in (rows, columns)):
        raise SliceRejected(reasons.MATRIX_SIZE, f"{rows} x {columns} pixels")
    bits = dataset.get("BitsAllocated")
    if bits not in (8, 16):
        raise SliceRejected(reasons.PIXEL_FORMAT, f"bits allocated: {bits}")
    if rows * columns * bits // 8 * frames > BYTE_BUDGET:
        raise SliceRejected(reasons.TOO_LARGE, f"{frames} frames of {rows} x {columns}")


def encoding(dataset: Tags, find: Find) -> PixelEncoding:
    """How patterns become HU.

    Args:
        find: a value of the frame's functional groups, else of the dataset, by sequence and keyword.

    Raises:
        SliceRejected: no rescale, a rescale to something else than HU, or bits that contradict each other.
    """
    slope, intercept = _rescale(dataset, find)
    allocated = int(dataset.get("BitsAllocated"))
    stored = int(dataset.get("BitsStored", allocated))
    high = int(dataset.get("HighBit", stored - 1))
    representation = int(dataset.get("PixelRepresentation", 0))
    if high >= allocated or representation not in (0, 1):
        raise SliceRejected(
            reasons.PIXEL_FORMAT, f"high bit {high} of {allocated} bits, pixel representation {representation}"
        )
    signed = representation == 1
    padding = _padding(dataset, signed)
    if padding is not None and padding[0] < padding[1]:
        low, high_hu = (slope * limit + intercept for limit in padding)
        if low < TISSUE_HU[1] and high_hu > TISSUE_HU[0]:
            raise SliceRejected(reasons.IMPLAUSIBLE_HU, f"padding is {low:g} to {high_hu:g} HU, which tissue has too")
    try:
        return PixelEncoding(
            bits_stored=stored,
            high_bit=high,
            signed=signed,
            slope=slope,
            intercept=intercept,
            padding=padding,
        )
    except ConfigError as error:
        raise SliceRejected(reasons.PIXEL_FORMAT, str(error)) from error


def is_lossy(dataset: Tags) -> bool:
    """Whether the pixels were compressed with loss, or may have been: 1.2.840.10008.1.2.4.91 leaves it open."""
    if text(dataset, "LossyImageCompression") == "01":
        return True
    syntax = dataset.syntax if isinstance(dataset, FastHeader) else str(dataset.file_meta.TransferSyntaxUID)
    return syntax.startswith(_COMPRESSED) and syntax not in _LOSSLESS


def _rescale(dataset: Tags, find: Find) -> tuple[float, float]:
    sequence = "PixelValueTransformationSequence"
    kind = joined(find(sequence, "RescaleType"))
    if kind not in _HU_TYPES:
        raise SliceRejected(reasons.NOT_HU, f"rescale type is {kind}")
    found = [find(sequence, keyword) for keyword in ("RescaleSlope", "RescaleIntercept")]
    slope, intercept = (number(f) for f in found)
    if any(n is None and f not in (None, "") for n, f in zip((slope, intercept), found, strict=True)):
        raise SliceRejected(reasons.BAD_HEADER, "the rescale slope or intercept is no number")
    if slope is None or intercept is None or slope == 0 or "ModalityLUTSequence" in dataset:
        raise SliceRejected(reasons.NOT_HU, "no usable rescale slope and intercept")
    if not 0 < slope <= MOST_SLOPE:
        raise SliceRejected(reasons.IMPLAUSIBLE_HU, f"the rescale slope is {slope:g}, expected up to {MOST_SLOPE:g}")
    return slope, intercept


def _padding(dataset: Tags, signed: bool) -> tuple[int, int] | None:
    """The padding range in stored values.

    PS3.3 C.7.5.1.1.2: its VR follows from PixelRepresentation, as that of the pixels does. Where it was written with
    the other VR, the 16 bits are what the pixels hold, and are read as the pixels are.
    """
    limit = _as_pixel(dataset, "PixelPaddingRangeLimit", signed)
    first = _as_pixel(dataset, "PixelPaddingValue", signed) if "PixelPaddingValue" in dataset else limit
    if first is None:
        return None
    last = first if limit is None else limit
    return min(first, last), max(first, last)


def _as_pixel(dataset: Tags, keyword: str, signed: bool) -> int | None:
    """A padding tag read as a pixel of 16 bits; None where it is missing, or no pixel can hold it."""
    found = integer(value(dataset, keyword))
    if found is None or not -0x8000 <= found <= 0xFFFF:
        return None
    pattern = found & 0xFFFF
    return pattern - 0x10000 if signed and pattern & 0x8000 else pattern

"""Whether stored pixels can be what their header says: shares of air and of values that no head has, and the bits.

What is measured here is judged where a whole series is known: one slice above the vertex is nearly all air, one filled
by a crop has hardly any.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import PixelMeasures
from dtvit_edge.spec import PixelEncoding

# In 140 good real slices at least 42 % of pixels lie below AIR_HU (39 % where padding is not counted) and none above
# HIGH_HU, which dense bone stays under.
# Where negative values were stored wrapped (12 bits of two's complement declared unsigned) none lie below AIR_HU, and
# 37 to 55 % above HIGH_HU. How low values go says nothing: -3024 and -32768 mark what lies outside of the scan.
AIR_HU = -300.0
HIGH_HU = 2500.0
LEAST_AIR = 0.01
MOST_HIGH = 0.05
# Where there is air around a head, its median was -998 to -1,009 HU in 43 real slices of heads, and -932 in one with
# lungs. Half of all values, as a wrong rescale slope gives them, make it -500. In a crop what is left of air lies in
# sinuses and cells of bone, partly mixed with tissue, and says nothing.
MOST_AIR_HU = -700.0
MUCH_AIR = 0.25
_SAMPLED = 8
_FILL = _LEAST_NOISY = 0.1
# A head is some 150 mm wide. Of 230 mm in view a chord of a third cuts 10 mm off it, which is scalp and skull; the tip
# of a nose and a headrest are narrower.
MOST_EDGE = 1 / 3
# So far inside, in parts of the side, is looked: a couch's shell and a frame drawn around an image are thinner.
_INSIDE = 32
_TISSUE_HU = -200.0
# In 29 real slices of heads 5 to 11 % of the pixels are bone, up to the vertex; blood stays below. A brain that was cut
# out of its skull has none.
_BONE_HU = 150.0
LEAST_BONE = 0.005
# From bone to what is wrapped it is nearly all of the range; from metal of 2047 HU to a streak of -1024 less than this.
WRAP = 0.75
MOST_WRAPS = 16

_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)  # PS3.3 C.9.2


Range = tuple[int, int]
_NOTHING: Range = (1, 0)


@dataclass(frozen=True)
class _Ranges:
    """Stored values, lowest and highest inclusive; a range that holds none ends before it begins.

    Attributes:
        hidden_padding: padding does not fit the stored bits, so that the values alone do not show it.
    """

    air: Range
    tissue: Range
    bone: Range
    high: Range
    padding: Range
    hidden_padding: bool


def measure(stored: NDArray[np.uint16], encoding: PixelEncoding) -> PixelMeasures:
    """What the pixels of a slice say of themselves.

    Args:
        stored: (rows, columns) raw patterns, which `check_bits` did not refuse.
    """
    values, ranges = encoding.values(stored), _ranges(encoding)
    least, most = int(values.min()), int(values.max())
    counted = values[~encoding.is_padding(stored)] if ranges.hidden_padding else values
    padding = _count(counted, ranges.padding, least, most)
    air, bone, high = (
        _count(counted, wanted, least, most) - _count(counted, _common(wanted, ranges.padding), least, most)
        for wanted in (ranges.air, ranges.bone, ranges.high)
    )
    pixels = max(counted.size - padding, 1)
    return PixelMeasures(
        air / pixels,
        high / pixels,
        least == most,
        _digest(values),
        _air_hu(stored, encoding, ranges),
        _edge_share(stored, encoding, ranges),
        bone / pixels,
    )


def has_air(measures: PixelMeasures) -> bool:
    """Whether a slice shows as much air as every slice of a whole head does."""
    return measures.air_share >= LEAST_AIR


def is_too_high(measures: PixelMeasures) -> bool:
    """Whether more of a slice is above `HIGH_HU` than the densest bone and metal explain."""
    return measures.high_share > MOST_HIGH


def is_thin_air(measures: PixelMeasures) -> bool:
    """Whether what lies around the head is too dense for air: a rescale slope that is too small makes it so."""
    return measures.air_hu is not None and measures.air_hu > MOST_AIR_HU and measures.air_share >= MUCH_AIR


def is_cut(measures: PixelMeasures) -> bool:
    """Whether the image's border runs through a head, so that some of it is not in view."""
    return measures.edge_share > MOST_EDGE


def has_bone(measures: PixelMeasures) -> bool:
    """Whether a slice shows as much bone as any slice of a head in its skull does."""
    return measures.bone_share >= LEAST_BONE


def check_bits(slice_: Slice) -> None:
    """Do BitsStored, HighBit and the sign say what the values are?

    Bits beside the value may repeat its sign, be zero, hold an overlay that the header declares, or make a pixel the
    declared padding value. Anything else means that the value lies elsewhere.

    Raises:
        SliceRejected: they do not, `pixel_format`.
    """
    stored, encoding = slice_.stored, slice_.header.encoding
    if encoding.bits_stored == 16:
        return
    if not _explains(stored, encoding):
        encoded = stored[~encoding.is_padding(stored)]
        if not (_explains(encoded, encoding) or _explains(encoded & ~_overlay_bits(slice_.header), encoding)):
            raise SliceRejected(
                reasons.PIXEL_FORMAT,
                f"{encoding.bits_stored} bits stored below high bit {encoding.high_bit}, but other bits hold values",
            )
    if encoding.signed and _wraps(stored, encoding):
        raise SliceRejected(
            reasons.PIXEL_FORMAT, f"{encoding.bits_stored} signed bits, but values wrap around where they are highest"
        )


def _wraps(stored: NDArray[np.uint16], encoding: PixelEncoding) -> bool:
    """Whether neighbours lie further apart than tissue and air do: unsigned values of dense bone read as signed."""
    values = encoding.values(stored)
    steps = np.abs(np.diff(values.astype(np.int32), axis=1))
    return int(np.count_nonzero(steps > WRAP * (1 << encoding.bits_stored))) > MOST_WRAPS


def _explains(stored: NDArray[np.uint16], encoding: PixelEncoding) -> bool:
    """Whether what lies beside the value is zero or repeats its sign."""
    if stored.size == 0:
        return True
    below = encoding.high_bit + 1 - encoding.bits_stored
    if below and int(np.bitwise_or.reduce(stored, axis=None)) & ((1 << below) - 1):
        return False
    most = 1 << (encoding.high_bit + 1)
    if not encoding.signed:
        return bool(stored.max() < most)
    # A sign that is repeated makes a small negative number of 16 bits, zeros above it a positive one.
    whole = stored.view(np.int16)
    return -most // 2 <= int(whole.min()) and int(whole.max()) < most


def _overlay_bits(header: SliceHeader) -> np.uint16:
    """Bits that the header says hold overlays (60xx,0102), the retired way of PS3.3 C.9.2; asked in doubt alone."""
    dataset = open_dataset(header.file, stop_before_pixels=True)
    bits = 0
    for group in _OVERLAY_GROUPS:
        try:
            with quiet():
                allocated, position = (int(dataset[group, element].value) for element in (0x0100, 0x0102))
        except Exception:  # absent, or damaged: elements are converted when they are asked for
            continue
        if allocated > 1 and (group, 0x3000) not in dataset:  # one that has bits of its own is no part of the pixels
            bits |= 1 << (position & 15)
    return np.uint16(bits)


@lru_cache(maxsize=64)
def _ranges(encoding: PixelEncoding) -> _Ranges:
    """HU limits as stored values: to compare those costs a fraction of rescaling every pixel."""
    bits = encoding.bits_stored
    values = np.arange(1 << bits) - ((1 << bits - 1) if encoding.signed else 0)
    hu = values * np.float64(encoding.slope) + np.float64(encoding.intercept)
    padding = (min(encoding.padding), max(encoding.padding)) if encoding.padding else _NOTHING
    hidden = bits < 16 and encoding.padding is not None and not values[0] <= padding[0] <= padding[1] <= values[-1]
    tissue = _range(values[(hu >= _TISSUE_HU) & (hu <= HIGH_HU)])
    bone, high = (_range(values[hu > limit]) for limit in (_BONE_HU, HIGH_HU))
    return _Ranges(_range(values[hu < AIR_HU]), tissue, bone, high, padding, hidden)


def _air_hu(stored: NDArray[np.uint16], encoding: PixelEncoding, ranges: _Ranges) -> float | None:
    """The median of air that has noise: a value that stands in many pixels alike is a fill, or a limit of clipping."""
    some = stored[::_SAMPLED, ::_SAMPLED]
    air = encoding.values(some)[_within(some, encoding, ranges.air)].astype(np.int64)
    if not air.size:
        return None
    counts = np.bincount(air - air.min())
    fills = np.flatnonzero(counts > _FILL * some.size) + air.min()
    noisy = air[~np.isin(air, fills)]
    if noisy.size < _LEAST_NOISY * some.size:
        return None
    return float(np.median(noisy)) * encoding.slope + encoding.intercept


def _edge_share(stored: NDArray[np.uint16], encoding: PixelEncoding, ranges: _Ranges) -> float:
    """Of the lines just inside the four sides the largest share that is tissue; of a fill all neighbours are alike."""
    rows, columns = (max(side // _INSIDE, 1) for side in stored.shape)
    shares = []
    for line in (stored[rows], stored[-1 - rows], stored[:, columns], stored[:, -1 - columns]):
        tissue = _within(line, encoding, ranges.tissue)
        shares.append(float(np.count_nonzero(tissue[1:] & (line[1:] != line[:-1])) / line.size))
    return max(shares)


def _within(stored: NDArray[np.uint16], encoding: PixelEncoding, wanted: Range) -> NDArray[np.bool_]:
    """Which pixels lie in a range and are no padding."""
    values = encoding.values(stored)
    return (values >= wanted[0]) & (values <= wanted[1]) & ~encoding.is_padding(stored)


def _range(values: NDArray[np.int64]) -> Range:
    """Of ascending values without a hole, as one side of a limit has them."""
    return (int(values[0]), int(values[-1])) if len(values) else _NOTHING


def _common(one: Range, other: Range) -> Range:
    return max(one[0], other[0]), min(one[1], other[1])


def _count(values: NDArray[np.int16] | NDArray[np.uint16], wanted: Range, least: int, most: int) -> int:
    """How many values lie in a range; with all of them in `least` to `most`, few need two comparisons."""
    first, last = max(wanted[0], least), min(wanted[1], most)
    if last < first:
        return 0
    if first == least:
        return int(np.count_nonzero(values <= last))
    if last == most:
        return int(np.count_nonzero(values >= first))
    return int(np.count_nonzero((values >= first) & (values <= last)))


def _digest(values: NDArray[np.int16] | NDArray[np.uint16]) -> str:
    """A checksum: no defence against an attacker, but a chance agreement of two images is one in four billions."""
    native = values.astype(values.dtype.newbyteorder("<"), copy=False)
    shape = np.array(values.shape, "<i4")
    return f"{zlib.crc32(np.ascontiguousarray(native).data, zlib.crc32(shape.data)):08x}"

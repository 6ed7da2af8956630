"""What stored pixels say of themselves, against plain arithmetic on HU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.plausibility import check_bits, is_cut, is_thin_air, measure
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.scoring.api import headers_of
from dtvit_edge.spec import PixelEncoding
from tests.support.data import real
from tests.support.dicom_files import dataset, save

SIGNED = PixelEncoding()
TWELVE = PixelEncoding(12, 11, signed=False, intercept=-1024.0)
TWELVE_SIGNED = PixelEncoding(12, 11, signed=True)
ENCODINGS = {
    "signed": SIGNED,
    "12-bit": TWELVE,
    "12-bit-signed": TWELVE_SIGNED,
    "12-bit-left-aligned": PixelEncoding(12, 15, signed=False, intercept=-1024.0),
    "fractional-slope": PixelEncoding(signed=False, slope=0.37, intercept=-1000.25),
    "negative-slope": PixelEncoding(slope=-2.0, intercept=40.0),
    "8-bit": PixelEncoding(8, 7, signed=False, slope=16.0, intercept=-1024.0),
    "all-air": PixelEncoding(8, 7, signed=False, intercept=-1024.0),
    "padded": PixelEncoding(padding=(-3024, -3024)),
    "padded-within": PixelEncoding(12, 11, signed=False, intercept=-1024.0, padding=(300, 10)),
    "padded-high": PixelEncoding(padding=(2600, 32767)),
    "padded-beyond-the-bits": PixelEncoding(12, 11, signed=False, intercept=-1024.0, padding=(63536, 63536)),
    "no-air-possible": PixelEncoding(12, 11, signed=False),
}


def noise(encoding: PixelEncoding) -> NDArray[np.uint16]:
    """Any values at all, as patterns that keep to their bits."""
    rng = np.random.default_rng(4)
    values = rng.integers(0, 1 << encoding.bits_stored, (61, 47))
    stored = values << (encoding.high_bit + 1 - encoding.bits_stored)
    if encoding.padding is not None:
        stored[:20] = encoding.padding[0] & 0xFFFF
    return stored.astype(np.uint16)


@pytest.mark.parametrize("name", ENCODINGS)
def test_shares_are_those_of_plain_arithmetic_pixel_by_pixel(name: str) -> None:
    encoding, stored = ENCODINGS[name], noise(ENCODINGS[name])
    air = bone = high = counted = 0
    sampled = []
    for at, pattern in np.ndenumerate(stored):
        pattern = int(pattern)
        value = (pattern >> (encoding.high_bit + 1 - encoding.bits_stored)) % 2**encoding.bits_stored
        whole = pattern
        if encoding.signed:
            value -= (value >= 2 ** (encoding.bits_stored - 1)) * 2**encoding.bits_stored
            whole -= (whole >= 2**15) * 2**16
        low, upper = sorted(encoding.padding) if encoding.padding else (1, 0)
        if low <= value <= upper or low <= whole <= upper:
            continue
        hu = value * encoding.slope + encoding.intercept
        counted, air, bone, high = counted + 1, air + (hu < -300), bone + (hu > 150), high + (hu > 2500)
        if hu < -300 and at[0] % 8 == at[1] % 8 == 0:
            sampled.append(hu)
    measures = measure(stored, encoding)
    shares = (measures.air_share, measures.bone_share, measures.high_share)
    assert shares == (air / counted, bone / counted, high / counted)
    assert not measures.constant
    enough = len(sampled) >= 0.1 * stored[::8, ::8].size
    assert measures.air_hu == (pytest.approx(np.median(sampled)) if enough else None)


@pytest.mark.parametrize(
    ("hu", "air", "high"), [(-301, 1, 0), (-300, 0, 0), (2500, 0, 0), (2501, 0, 1), (-32768, 1, 0)]
)
def test_the_limits_themselves_do_not_count(hu: int, air: int, high: int) -> None:
    measures = measure(np.full((40, 40), hu, np.int16).view(np.uint16), SIGNED)
    assert (measures.air_share, measures.high_share, measures.constant) == (air, high, True)


def test_padding_alone_has_no_shares() -> None:
    measures = measure(np.full((40, 40), -2000, np.int16).view(np.uint16), PixelEncoding(padding=(-2000, -2000)))
    assert (measures.air_share, measures.high_share, measures.constant) == (0.0, 0.0, True)


def test_negative_values_declared_unsigned_have_no_air_and_much_that_is_too_high(head: NDArray[np.int16]) -> None:
    wrapped = measure((head & 0xFFF).astype(np.uint16), PixelEncoding(12, 11, signed=False))
    right = measure(head.view(np.uint16), SIGNED)
    assert wrapped.air_share == 0 and wrapped.high_share > 0.3
    assert right.air_share > 0.3 and right.high_share == 0


@pytest.mark.parametrize(("slope", "thin"), [(1.0, False), (0.75, False), (0.65, True), (0.5, True)])
def test_a_slope_that_is_too_small_thins_the_air(head: NDArray[np.int16], slope: float, thin: bool) -> None:
    measures = measure(head.view(np.uint16), PixelEncoding(slope=slope))
    assert measures.air_hu == pytest.approx(-1000 * slope, abs=15)
    assert is_thin_air(measures) is thin


def test_air_that_is_a_fill_or_clipped_or_little_says_nothing(head: NDArray[np.int16]) -> None:
    def air_hu(image: NDArray[np.int16]) -> float | None:
        return measure(image.view(np.uint16), SIGNED).air_hu

    assert air_hu(np.maximum(head, np.int16(-500))) is None
    assert air_hu(np.where(head < -300, np.int16(-2000), head)) is None
    assert air_hu(np.where(head < -300, np.int16(40), head)) is None
    half_filled = head.copy()
    half_filled[:30] = -3024
    assert air_hu(half_filled) == pytest.approx(-1000, abs=15)
    thin = replace(measure(head.view(np.uint16), SIGNED), air_hu=-500.0)
    assert is_thin_air(thin) and not is_thin_air(replace(thin, air_share=0.249))
    assert not is_thin_air(replace(thin, air_hu=None))


@pytest.mark.parametrize("turns", range(4))
def test_tissue_just_inside_a_side_of_the_image_cuts_the_head(turns: int) -> None:
    image = np.random.default_rng(0).normal(-1000, 10, (128, 128)).astype(np.int16)
    image[:40, :60] = np.random.default_rng(1).normal(40, 10, (40, 60))

    def edge(picture: NDArray[np.int16], encoding: PixelEncoding = SIGNED) -> float:
        return measure(np.rot90(picture, turns).copy().view(np.uint16), encoding).edge_share

    assert edge(image) > 0.4 and is_cut(measure(image.view(np.uint16), SIGNED))
    framed = image.copy()
    framed[[0, -1]] = framed[:, [0, -1]] = -1024
    assert edge(framed) > 0.4  # a frame that is drawn around a crop hides nothing
    shell = np.full((128, 128), -1000, np.int16)
    shell[:3] = np.random.default_rng(1).normal(80, 10, (3, 128))
    assert edge(shell) < 0.05
    assert edge(np.where(image > -200, np.int16(0), image)) < 0.05  # a fill of 0 HU is no tissue
    assert edge(np.where(image > -200, np.int16(-201), image)) < 0.05


def test_digests_tell_images_apart_and_not_how_they_are_stored(head: NDArray[np.int16]) -> None:
    values = np.clip(head, -2048, 2047)

    def digest(stored: NDArray[np.uint16], encoding: PixelEncoding = TWELVE_SIGNED) -> str:
        return measure(stored, encoding).digest

    extended = values.view(np.uint16)
    assert digest(extended) == digest(extended & 0xFFF) == digest(extended.copy())
    other = extended.copy()
    other[3, 5] ^= 1
    assert len({digest(extended), digest(other), digest(extended.T.copy()), digest(extended.reshape(-1, 64))}) == 4


BITS = {  # encoding, patterns to add at one place, whether that is a contradiction
    "16 bits": (SIGNED, 0xFFFF, False),
    "12 bits": (TWELVE, 0x0FFF, False),
    "a value above 12 bits": (TWELVE, 0x1000, True),
    "a sign in 12 bits": (TWELVE_SIGNED, 0x0FFF, False),
    "a sign repeated above 12 bits": (TWELVE_SIGNED, 0xF800, False),
    "a number too small for 12 bits": (TWELVE_SIGNED, 0xF7FF, True),
    "a number too large for 12 bits": (TWELVE_SIGNED, 0x1000, True),
    "left aligned": (PixelEncoding(12, 15, signed=False), 0xFFF0, False),
    "below what is left aligned": (PixelEncoding(12, 15, signed=False), 0x0008, True),
    "between": (PixelEncoding(12, 13, signed=False), 0x3FFC, False),
    "above what lies between": (PixelEncoding(12, 13, signed=False), 0x4000, True),
    "padding above 12 bits": (PixelEncoding(12, 11, signed=False, padding=(63536, 63536)), 63536, False),
    "beside padding above 12 bits": (PixelEncoding(12, 11, signed=False, padding=(63536, 63536)), 63537, True),
    "padding too small for 12 bits": (
        PixelEncoding(12, 11, signed=True, padding=(-3024, -3024)),
        -3024 & 0xFFFF,
        False,
    ),
}


@pytest.mark.parametrize("name", BITS)
def test_bits_that_contradict_the_values_are_refused(name: str, tmp_path: Path) -> None:
    encoding, pattern, contradicts = BITS[name]
    stored = np.zeros((40, 40), np.uint16)
    stored[7, 9] = pattern
    slice_ = _slice(stored, encoding, save(tmp_path / "x"))
    if not contradicts:
        return check_bits(slice_)
    with pytest.raises(SliceRejected, match="bits stored below high bit") as caught:
        check_bits(slice_)
    assert caught.value.reason is reasons.PIXEL_FORMAT


@pytest.mark.parametrize(
    ("tags", "declared"),
    [
        ({0x0102: 12, 0x0100: 16}, True),
        ({0x0102: 13, 0x0100: 16}, False),
        ({0x0102: 0, 0x0100: 1}, False),
        ({0x0102: 12}, False),
        ({0x0102: [12, 13], 0x0100: 16}, False),
    ],
    ids=["in-this-bit", "in-another-bit", "of-its-own", "incomplete", "damaged"],
)
def test_an_overlay_in_a_bit_above_is_no_value_if_it_is_declared(
    tmp_path: Path, tags: dict[int, Any], declared: bool
) -> None:
    ds = dataset()
    for element, value in tags.items():
        ds.add_new((0x6002, element), "US", value)
    stored = np.zeros((40, 40), np.uint16)
    stored[7] = 0x1000 | 77
    slice_ = _slice(stored, TWELVE, save(tmp_path / "x", ds))
    if declared:
        return check_bits(slice_)
    with pytest.raises(SliceRejected):
        check_bits(slice_)


def test_no_real_slice_is_refused_for_its_bits_or_has_values_too_high() -> None:
    looked_at = 0
    for folder in ("studies", "transfer-syntaxes/nema-ct2", "transfer-syntaxes/nema-ct1", "transfer-syntaxes/ctimage"):
        for header in headers_of(discover(walk([real(folder)]), any_series=True)):
            try:
                slice_ = SliceReader().read(header)
            except SliceRejected:
                continue
            check_bits(slice_)
            measures = measure(slice_.stored, header.encoding)
            assert measures.air_share > 0.3 and measures.high_share == 0 and not measures.constant
            looked_at += 1
    assert looked_at > 35


def test_bone_that_wraps_around_is_refused(tmp_path: Path, head: NDArray[np.int16]) -> None:
    """12 unsigned bits below an intercept of -1024, declared signed: what is above 1023 HU became lower than air."""
    file, stored = save(tmp_path / "x"), (np.clip(head, -1024, 3071) + 1024).astype(np.uint16)
    with pytest.raises(SliceRejected, match="12 signed bits, but values wrap around") as caught:
        check_bits(_slice(stored, replace(TWELVE, signed=True), file))
    assert caught.value.reason is reasons.PIXEL_FORMAT
    check_bits(_slice(stored, TWELVE, file))
    metal = np.clip(head, -1024, 2047)
    metal[30:60:2, 30:60] = 2047
    metal[31:60:2, 30:60] = metal[30:60, 30:60:2] = -1024
    check_bits(_slice((metal & 0xFFF).astype(np.uint16), TWELVE_SIGNED, file))


@pytest.fixture(scope="module")
def head() -> NDArray[np.int16]:
    """A phantom's slice in HU: (128, 128)."""
    ds = dataset()
    return (ds.pixel_array.astype(np.int64) * ds.RescaleSlope + ds.RescaleIntercept).astype(np.int16)


def _slice(stored: NDArray[np.uint16], encoding: PixelEncoding, file: Path) -> Slice:
    return Slice(SliceHeader(file, file.name, Identity(), 1, 1, *stored.shape, encoding), stored)

"""Thin slices averaged in HU, against plain floats."""

from __future__ import annotations

import numpy as np
import pytest

from dtvit_edge.preprocess.averaging import AVERAGED, LEAST_HU, Average
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec
from tests.support.preprocess_cases import FRACTIONAL, PADDED, SIGNED, TWELVE_OF_16, store

ENCODINGS = {
    "signed": SIGNED,
    "12-bit": TWELVE_OF_16,
    "fractional": FRACTIONAL,
    "inverted": PixelEncoding(slope=-1.0, intercept=10.0),
}
RNG = np.random.default_rng(7)


def hu_of(average: Average) -> np.ndarray:
    return AVERAGED.values(average.stored()) * AVERAGED.slope


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_mean_is_that_of_the_hu_to_a_quarter(name: str, count: int) -> None:
    encoding = ENCODINGS[name]
    slices = [store(RNG.normal(30, 200, (40, 56)).clip(-900, 2900), encoding) for _ in range(count)]
    average = Average()
    for stored in slices:
        average.add(stored, encoding)
    expected = np.mean([encoding.values(s) * encoding.slope + encoding.intercept for s in slices], axis=0)
    assert average.stored().shape == (40, 56) and average.stored().dtype == np.uint16
    assert np.abs(hu_of(average) - expected).max() <= (0.125 if encoding.slope % 1 == 0 else 0.25)


def test_whole_hu_of_slices_of_several_encodings_are_exact_to_the_rounding() -> None:
    average = Average()
    average.add(store(np.full((4, 4), 10), SIGNED), SIGNED)
    average.add(store(np.full((4, 4), 11), TWELVE_OF_16), TWELVE_OF_16)
    assert set(hu_of(average).ravel()) == {10.5}
    average.add(store(np.full((4, 4), 11), SIGNED), SIGNED)
    assert set(hu_of(average).ravel()) == {10.75}, "32 / 3 to the nearest quarter"


def test_padding_counts_as_air_and_marks_below_the_scale_do_not_pull_a_mean_down() -> None:
    average = Average()
    for values in ((-1500, -3024, 40), (40, 40, 40)):
        average.add(np.array([values], np.int16).view(np.uint16), PADDED)
    assert hu_of(average).tolist() == [[(-1000 + 40) / 2, (LEAST_HU + 40) / 2, 40]]


def test_values_beyond_16_bits_of_quarters_are_clipped() -> None:
    average = Average()
    average.add(np.array([[32767, 8191, -32768]], np.int16).view(np.uint16), SIGNED)
    assert hu_of(average).tolist() == [[8191.75, 8191, LEAST_HU]]


def test_a_slice_averaged_with_itself_is_prepared_as_it_would_be_alone() -> None:
    hu = np.rint(RNG.normal(30, 30, (128, 128))).clip(-1000, 500)
    hu[:, :20] = -1000
    average = Average()
    for _ in range(8):
        average.add(store(hu, SIGNED), SIGNED)
    prepare = CpuPreprocessor(PreprocessSpec())
    alone, averaged = prepare(store(hu, SIGNED), SIGNED), prepare(average.stored(), AVERAGED)
    np.testing.assert_array_equal(averaged.pixels, alone.pixels)
    assert averaged.brain_share == alone.brain_share

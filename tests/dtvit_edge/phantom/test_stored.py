"""HU become the patterns of a file and come back, whatever the encoding."""

from __future__ import annotations

import numpy as np
import pytest

from dtvit_edge.phantom.stored import as_stored
from dtvit_edge.spec import PixelEncoding

HU = np.array([[-1000, -3, 0], [40, 80, 1500], [7, 8, 9]], np.int16)


@pytest.mark.parametrize(
    ("encoding", "bits", "shift"),
    [
        (PixelEncoding(), 16, 0),
        (PixelEncoding(bits_stored=12, high_bit=11, signed=False, intercept=-1024.0), 12, 0),
        (PixelEncoding(bits_stored=12, high_bit=15, signed=False, intercept=-1024.0), 12, 4),
        (PixelEncoding(bits_stored=16, high_bit=15, signed=False, slope=0.5, intercept=-1024.0), 16, 0),
    ],
    ids=["signed", "12 bits", "in the high bits", "half steps"],
)
def test_hu_come_back_from_the_bits_that_are_stored(encoding: PixelEncoding, bits: int, shift: int) -> None:
    stored = as_stored(HU, encoding)
    assert stored.dtype == np.uint16
    values = (stored.astype(np.int64) >> shift) & ((1 << bits) - 1)
    if encoding.signed:
        values -= (values >> (bits - 1)) << bits
    np.testing.assert_array_equal(values * encoding.slope + encoding.intercept, HU)
    assert shift == 0 or ((stored & ((1 << shift) - 1)) == (1 << shift) - 1).all()  # junk below the stored bits


def test_values_beyond_an_encoding_become_its_ends_and_corners_are_padded() -> None:
    narrow = PixelEncoding(bits_stored=8, high_bit=7, signed=False)
    np.testing.assert_array_equal(as_stored(HU, narrow)[:2], [[0, 0, 0], [40, 80, 255]])
    padded = as_stored(np.pad(HU, 1), PixelEncoding(padding=(-2000, -2000))).view(np.int16)
    assert (padded[0, 0], padded[4, 4], padded[0, 2], padded[2, 2]) == (-2000, -2000, 0, 80)

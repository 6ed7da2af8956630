from __future__ import annotations

import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.rescale_table import brain_bytes, rescale_table
from dtvit_edge.spec import PixelEncoding, PreprocessSpec, Window, WindowKind
from tests.support.preprocess_cases import (
    FRACTIONAL,
    PADDED,
    PADDED_RANGE,
    SIGNED,
    THREE,
    TWELVE_HIGH,
    TWELVE_OF_16,
    TWELVE_SIGNED,
    UNSIGNED,
    WINDOWED,
)
from tests.support.preprocess_reference import reference_window

ALL = {
    "signed": SIGNED,
    "unsigned": UNSIGNED,
    "padded": PADDED,
    "padded-range": PADDED_RANGE,
    "12-of-16": TWELVE_OF_16,
    "12-signed": TWELVE_SIGNED,
    "12-high": TWELVE_HIGH,
    "fractional": FRACTIONAL,
    "windowed": WINDOWED,
    "one-bit": PixelEncoding(bits_stored=1, high_bit=0, signed=False),
}
PATTERNS = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("kind", list(WindowKind), ids=str)
@pytest.mark.parametrize("name", ALL)
def test_all_65536_patterns_match_the_reference(name: str, kind: WindowKind) -> None:
    window = Window(40, 80, kind)
    table = rescale_table(ALL[name], PreprocessSpec(windows=(window,)))
    assert table.shape == (1, 1 << 16)
    np.testing.assert_array_equal(table[0], reference_window(PATTERNS, ALL[name], window))


def test_the_two_window_kinds_differ_at_67_values() -> None:
    tables = [rescale_table(SIGNED, PreprocessSpec(windows=(Window(40, 80, kind),)))[0] for kind in WindowKind]
    assert int((tables[0] != tables[1]).sum()) == 67


def test_padding_is_black_even_where_it_is_bright() -> None:
    assert rescale_table(PADDED_RANGE, PreprocessSpec())[0][64000] == 0


def test_padding_outside_of_the_stored_bits_is_found_by_the_whole_pattern() -> None:
    encoding = PixelEncoding(12, 11, signed=False, intercept=-1024.0, padding=(63536, 63536))
    table = rescale_table(encoding, PreprocessSpec())[0]
    assert (table[63536], table[63536 & 0xFFF]) == (0, 255)


def test_three_windows_give_three_rows() -> None:
    table = rescale_table(SIGNED, THREE)
    for row, window in zip(table, THREE.windows, strict=True):
        np.testing.assert_array_equal(row, reference_window(PATTERNS, SIGNED, window))


def test_a_table_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rescale_table(SIGNED, PreprocessSpec())[0][0] = 1


@pytest.mark.parametrize(("stored", "high"), [(0, 15), (17, 16), (12, 10), (16, 16)])
def test_contradicting_bits_are_refused(stored: int, high: int) -> None:
    with pytest.raises(ConfigError, match="do not fit 16 bits"):
        PixelEncoding(bits_stored=stored, high_bit=high)


def test_sign_extension_by_hand() -> None:
    values = TWELVE_SIGNED.values(PATTERNS)
    assert [values[p] for p in (0x000, 0x7FF, 0x800, 0xFFF, 0xF001)] == [0, 2047, -2048, -1, 1]


def test_the_brain_range_in_bytes_of_the_default_window() -> None:
    assert brain_bytes(PreprocessSpec()) == (32, 191)

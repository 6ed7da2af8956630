"""Sizes and times as people say them."""

from __future__ import annotations

import pytest

from dtvit_edge.cli import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (657_000, "642 KiB"),
        (1023.6 * 1024, "1 MiB"),
        (13_500_000, "12.9 MiB"),
        (134_900_000, "129 MiB"),
        (1_500_000_000, "1.4 GiB"),
        (5e15, "4547 TiB"),
    ],
)
def test_sizes_have_at_most_three_digits(count: float, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42e-6, "42 µs"),
        (0.00085, "850 µs"),
        (0.0123, "12.3 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (3.25, "3.25 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (3599.7, "1 h"),
        (12_000, "3 h 20 min"),
        (86_399.9, "1 d"),
        (187_000, "2 d 4 h"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        units.duration(-1)

"""Zeros that stand for pixel data that were lost: an interrupted copy into a file of full length, or a hole in one.

Such zeros read as air, or as water, and a bleed behind them as a healthy slice. Whole rows of zeros are no sign by
themselves: what lies outside of a scan's circle, and what a reformatted slice shows beside its volume, is often 0.
There zeros begin with a row, or at a slanted or round edge. Data that were lost begin where a block of the file did:
within a row, whose rest is zeros though the row before it has values there. Only where pixels lie in the file as they
are: of compressed ones the rest does not decode, or not to zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.dicom.plausibility import AIR_HU
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import SliceRejected

LEAST_ROWS = 2
# A row that is cut off this near to its end looks like one whose last pixels happen to be 0.
LEAST_REST = 16
# Noise in air is above it; what lossy compression leaves of zeros is not.
LEAST_VALUE = 4
# A head begins with a round edge: beside rows without it, none has as much of it as this.
MOST_AT_AN_EDGE = 0.2
_STEP = 16  # columns between those that are looked at first


def check_lost(slice_: Slice) -> None:
    """Are there rows of zeros that begin or end within a row, or that part a head in two?

    Raises:
        SliceRejected: there are, `lost_pixels`.
    """
    stored, location = slice_.stored, slice_.header.pixel_location
    if location is None or location.rle:
        return
    for first, end in _bands(stored):
        begins = first > 2 and _is_cut(*stored[first - 3 : first][::-1])
        ends = end < len(stored) - 2 and _is_cut(*stored[end : end + 3, ::-1])
        parts = first > 0 and end < len(stored) and all(_is_wide(slice_, row) for row in (first - 1, end))
        if begins or ends or parts:
            raise SliceRejected(reasons.LOST_PIXELS, f"zeros alone from row {first + 1} to {end} of {len(stored)}")


def _bands(stored: NDArray[np.uint16]) -> list[tuple[int, int]]:
    """The first row and the one after the last of every run of rows that are zeros alone."""
    maybe = np.flatnonzero(~stored[:, ::_STEP].any(axis=1))
    if len(maybe) < LEAST_ROWS:
        return []
    rows = maybe[~stored[maybe].any(axis=1)]
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run) >= LEAST_ROWS]


def _is_cut(row: NDArray[np.uint16], before: NDArray[np.uint16], earlier: NDArray[np.uint16]) -> bool:
    """Whether values end in the middle of a row, and only of this one.

    A round or a slanted edge moves from row to row as well, or on both sides.
    """
    (first, last), (first_before, last_before) = _ends(row), _ends(before)
    jump = last_before - last
    moves = abs(first_before - first), abs(_ends(earlier)[1] - last_before)
    if jump < LEAST_REST or max(moves) > jump // 4:
        return False
    kept, lost = np.count_nonzero(before[: last + 1]), np.count_nonzero(before[last + 1 :] > LEAST_VALUE)
    return 2 * int(lost) > jump and 10 * int(np.count_nonzero(row)) > 9 * int(kept)


def _ends(row: NDArray[np.uint16]) -> tuple[int, int]:
    """The first and the last column that is not zero; -1 and -1 where there is none."""
    values = np.flatnonzero(row)
    return (int(values[0]), int(values[-1])) if len(values) else (-1, -1)


def _is_wide(slice_: Slice, row: int) -> bool:
    """Whether more than the edge of a head lies in a row."""
    stored, encoding = slice_.stored[row], slice_.header.encoding
    hu = encoding.values(stored) * np.float64(encoding.slope) + encoding.intercept
    return int(np.count_nonzero((hu > AIR_HU) & (stored != 0))) > MOST_AT_AN_EDGE * len(stored)

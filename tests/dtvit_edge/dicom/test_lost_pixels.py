"""Zeros where pixel data were lost, and the zeros that every scanner and every reformat writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.lost_pixels import check_lost
from dtvit_edge.dicom.slice import PixelLocation, Slice, SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding
from tests.support.scoring_runs import score, table

SIDE = 256
PLAIN = PixelLocation(1286, SIDE * SIDE * 2, False, b"", 132)
OFFSET = PixelEncoding(16, 15, signed=False, intercept=-1024.0)
SIGNED = PixelEncoding()
Pixels = NDArray[np.uint16]


def head(encoding: PixelEncoding) -> Pixels:
    """A disk of brain in noisy air, on a table."""
    y, x = np.mgrid[:SIDE, :SIDE]
    hu = np.full((SIDE, SIDE), -1000.0)
    hu[(y - 120) ** 2 + (x - 128) ** 2 < 90**2] = 35.0
    hu[222:228, 30:226] = -150.0
    hu += np.random.default_rng(3).normal(0, 8, hu.shape)
    return (hu - encoding.intercept).round().astype(np.int32).astype(np.uint16)


def check(stored: Pixels, encoding: PixelEncoding, location: PixelLocation | None = PLAIN) -> None:
    header = SliceHeader(Path("x"), "x", Identity(), 1, 1, SIDE, SIDE, encoding=encoding, pixel_location=location)
    check_lost(Slice(header, stored))


@pytest.mark.parametrize("outside", [None, "circle"], ids=["all of the matrix", "in a circle"])
@pytest.mark.parametrize("encoding", [OFFSET, SIGNED], ids=["air is 24", "air is -1000"])
@pytest.mark.parametrize("first", [SIDE * 40 + 100, SIDE * 120 + 128, SIDE * 200 + 70, SIDE * 120 + 218])
@pytest.mark.parametrize("length", [3 * SIDE, 40 * SIDE + 11, SIDE * SIDE])
def test_zeros_that_begin_or_end_within_a_row_are_lost_pixels(
    encoding: PixelEncoding, first: int, length: int, outside: str | None
) -> None:
    stored = head(encoding)
    if outside:
        circle(stored)
    check(stored, encoding)
    for turned in (False, True):
        flat = stored.ravel().copy()
        part = flat[::-1] if turned else flat
        part[first : first + length] = 0
        with pytest.raises(SliceRejected) as caught:
            check(flat.reshape(SIDE, SIDE), encoding)
        assert caught.value.reason is reasons.LOST_PIXELS


def test_whole_rows_of_zeros_that_part_a_head_are_lost_pixels() -> None:
    stored = head(OFFSET)
    stored[100:130] = 0
    with pytest.raises(SliceRejected, match="zeros alone from row 101 to 130 of 256"):
        check(stored, OFFSET)


def slanted(stored: Pixels) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    stored[y > 180 + 0.02 * x] = 0


def circle(stored: Pixels) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    stored[(y - 128) ** 2 + (x - 128) ** 2 > 110**2] = 0


def clipped(stored: Pixels) -> None:
    stored[stored < 500] = 0


def sparse(stored: Pixels) -> None:
    """The last row of a table, of which noise alone is above what was cut off."""
    clipped(stored)
    stored[228, 30:226:7] = 600


def lossy(stored: Pixels) -> None:
    clipped(stored)
    stored[240] = 2


HONEST: dict[str, Callable[[Pixels], None]] = {
    "beside the volume of a reformat": lambda stored: stored[170:].fill(0),
    "above it": lambda stored: stored[:60].fill(0),
    "beside a volume that is turned": slanted,
    "outside of the circle of a scan": circle,
    "air that was cut off at 0, between head and table": clipped,
    "a table that ends in noise": sparse,
    "what lossy compression left of zeros": lossy,
    "nothing else": lambda stored: stored.fill(0),
}


@pytest.mark.parametrize("name", HONEST)
def test_zeros_that_an_honest_slice_has_are_none(name: str) -> None:
    stored = head(OFFSET)
    HONEST[name](stored)
    check(stored, OFFSET)


def test_compressed_pixels_are_not_asked() -> None:
    stored = head(OFFSET)
    stored.ravel()[SIDE * 120 + 128 :] = 0
    for location in (None, replace(PLAIN, rle=True)):
        check(stored, OFFSET, location)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_an_interrupted_copy_is_an_error_and_never_a_study_without_a_finding(
    share: float, tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(phantom_folder, tmp_path / "in")
    files = sorted(path for path in (tmp_path / "in").rglob("IM*"))
    for file in files:
        data = file.read_bytes()
        length = int(len(data) * share) // 4096 * 4096
        file.write_bytes(data[:length] + bytes(len(data) - length))
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    rows = table(tmp_path / "out" / "slices.csv")
    lost = [row for row in rows if row["reason"] == "lost_pixels"]
    images = [row for row in rows if row["sop_uid"]]
    assert len(lost) == len(images)
    assert not any(
        row["flagged"] == "0" and row["status"] == "scored" for row in table(tmp_path / "out" / "studies.csv")
    )

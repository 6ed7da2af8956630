"""Images of one slice and of several: what the executor is given, and what is said of each slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dtvit_edge import reasons
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice, SliceHeader, SliceImage
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import DeviceFault, SliceRejected
from dtvit_edge.preprocess.averaging import AVERAGED
from dtvit_edge.results import PixelMeasures
from dtvit_edge.scoring import image_reading
from dtvit_edge.scoring.api import headers_of
from dtvit_edge.scoring.image_reading import ImageReader, ReadImage
from dtvit_edge.scoring.timings import Timings
from tests.support.dicom_files import dataset, save


class Passing:
    """The part of an executor that is asked here: it takes slices as they are."""

    def prepare(self, slice_: Slice) -> Slice:
        return slice_


@pytest.fixture
def thin(tmp_path: Path) -> list[SliceHeader]:
    """Five slices at 0.6 mm, the n-th 10 n HU brighter than the first."""
    ds = dataset()
    first = ds.pixel_array
    for n in range(5):
        save(
            tmp_path / f"{n}",
            PixelData=(first + 10 * n).astype(first.dtype).tobytes(),
            SOPInstanceUID=f"2.25.9.{n}",
            InstanceNumber=n + 1,
            SliceThickness=0.6,
            ImagePositionPatient=[0, 0, 0.6 * n],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    return headers_of(discover(walk([tmp_path])))


def read(headers: Sequence[SliceHeader], least_side: int = 32) -> ReadImage:
    reader = ImageReader(SliceReader(), Passing(), least_side, Timings())  # type: ignore[arg-type]
    return reader(SliceImage(tuple(headers), 4))


def hu(slice_: Any) -> np.ndarray:
    encoding = slice_.header.encoding
    return np.asarray(encoding.values(slice_.stored) * encoding.slope + encoding.intercept)


def test_one_slice_alone_passes_byte_for_byte(thin: list[SliceHeader]) -> None:
    image = read(thin[:1])
    expected = SliceReader().read(thin[0])
    assert image.prepared.header is thin[0]
    np.testing.assert_array_equal(image.prepared.stored, expected.stored)
    (measures,) = image.slices
    assert isinstance(measures, PixelMeasures) and 0.3 < measures.air_share < 0.9


def test_thin_slices_are_averaged_in_hu_under_the_header_of_the_middle_one(thin: list[SliceHeader]) -> None:
    image = read(thin)
    assert image.prepared.header == replace(thin[2], encoding=AVERAGED)
    np.testing.assert_array_equal(hu(image.prepared), hu(SliceReader().read(thin[2])).clip(min=-1024))
    assert all(isinstance(measures, PixelMeasures) for measures in image.slices)


def test_a_slice_that_cannot_be_read_is_left_out_of_the_mean(thin: list[SliceHeader]) -> None:
    thin[4].file.write_bytes(thin[4].file.read_bytes()[:600])
    image = read(thin)
    assert [type(entry).__name__ for entry in image.slices] == ["PixelMeasures"] * 4 + ["SliceRejected"]
    assert image.slices[4].reason.code in ("truncated", "not_the_planned")  # type: ignore[union-attr]
    np.testing.assert_array_equal(hu(image.prepared), hu(SliceReader().read(thin[0])).clip(min=-1039) + 15)


def test_the_only_readable_slice_of_several_passes_byte_for_byte(thin: list[SliceHeader]) -> None:
    for header in (thin[0], thin[2]):
        header.file.unlink()
    image = read(thin[:3])
    assert image.prepared.header is thin[1]
    np.testing.assert_array_equal(image.prepared.stored, SliceReader().read(thin[1]).stored)


@pytest.mark.parametrize("value", [0, 30_000], ids=["constant", "too-high"])
def test_a_slice_that_cannot_be_right_is_left_out_of_the_mean(thin: list[SliceHeader], value: int) -> None:
    ds = dataset()
    pixels = np.full_like(ds.pixel_array, value)
    pixels[0, 0] = value and 0
    ds.PixelData = pixels.tobytes()
    with_it, without = [*thin[:2], header_of(thin[2], ds), *thin[3:]], [*thin[:2], *thin[3:]]
    np.testing.assert_array_equal(hu(read(with_it).prepared), hu(read(without).prepared))
    assert isinstance(read(with_it).slices[2], PixelMeasures)


def test_an_image_of_constant_slices_alone_is_shown_as_it_is(thin: list[SliceHeader]) -> None:
    ds = dataset()
    ds.PixelData = bytes(len(ds.PixelData))
    constant = [header_of(header, ds) for header in thin[:2]]
    assert len(np.unique(read(constant).prepared.stored)) == 1


def header_of(header: SliceHeader, ds: FileDataset) -> SliceHeader:
    """The header of a slice whose file now holds this dataset."""
    save(header.file, ds)
    return replace(read_headers(header.file, header.path)[0], thickness_mm=0.6)


def test_an_image_without_a_readable_slice_has_nothing_to_prepare(thin: list[SliceHeader]) -> None:
    for header in thin:
        header.file.write_bytes(b"")
    image = read(thin)
    assert image.prepared is None
    assert all(isinstance(entry, SliceRejected) for entry in image.slices)


def test_another_matrix_than_most_have_is_refused_and_the_rest_averaged(thin: list[SliceHeader]) -> None:
    odd = replace(thin[0], rows=64, columns=64)
    image = read([odd, *thin[1:3]])
    assert isinstance(image.slices[0], SliceRejected) and image.slices[0].reason is reasons.MATRIX_SIZE
    assert image.slices[0].detail == "64 x 64 among slices of 512 x 512 to be averaged"
    np.testing.assert_array_equal(hu(image.prepared), hu(SliceReader().read(thin[1])).clip(min=-1029) + 5)


def test_a_matrix_that_the_spec_does_not_take_is_not_read(thin: list[SliceHeader]) -> None:
    thin[0].file.unlink()
    (refused,) = read(thin[:1], least_side=1024).slices
    assert isinstance(refused, SliceRejected) and refused.reason is reasons.MATRIX_SIZE


def test_bits_that_contradict_the_pixels_refuse_the_slice(thin: list[SliceHeader]) -> None:
    encoding = replace(thin[0].encoding, bits_stored=12, high_bit=15, signed=False)
    image = read([replace(thin[0], encoding=encoding)])
    assert image.prepared is None
    assert image.slices[0].reason is reasons.PIXEL_FORMAT  # type: ignore[union-attr]


class Failing:
    """An executor's part that raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def prepare(self, slice_: Slice) -> Slice:
        raise self._error


def test_whatever_preparing_raises_is_the_images_rows_and_a_device_fault_is_the_runs(thin: list[SliceHeader]) -> None:
    def prepare(error: Exception) -> ReadImage:
        reader = ImageReader(SliceReader(), Failing(error), 32, Timings())  # type: ignore[arg-type]
        return reader(SliceImage(tuple(thin[:2]), 1))

    image = prepare(MemoryError())
    assert image.prepared is None
    for failure in image.slices:
        assert isinstance(failure, SliceRejected)
        assert (failure.reason, failure.detail) == (reasons.DECODE_FAILED, "MemoryError")
    with pytest.raises(DeviceFault):
        prepare(DeviceFault("gone"))


def test_whatever_measuring_raises_is_that_slices_row(thin: list[SliceHeader], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(image_reading, "measure", fail)
    (failure,) = read(thin[:1]).slices
    assert isinstance(failure, SliceRejected)
    assert (failure.reason, failure.detail) == (reasons.DECODE_FAILED, "ZeroDivisionError")

"""A dataset becomes the file that it was read from, whatever has been asked of it since."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from dtvit_edge.dicom.dataset_file import file_bytes
from dtvit_edge.dicom.fast_header import parse
from dtvit_edge.errors import SliceRejected
from tests.support.dicom_files import dataset, save


def read(data: bytes) -> FileDataset:
    return pydicom.dcmread(BytesIO(data))


def body(data: bytes) -> bytes:
    """Behind the file meta information."""
    (length,) = struct.unpack_from("<I", data, 140)
    return data[144 + length :]


def test_elements_that_nobody_asked_for_are_copied(tmp_path: Path) -> None:
    data = save(tmp_path / "slice").read_bytes()
    assert body(file_bytes(read(data))) == body(data)


def test_elements_that_were_asked_for_say_the_same(tmp_path: Path) -> None:
    ds = read(save(tmp_path / "slice").read_bytes())
    before = str(ds)
    assert read(file_bytes(ds)) == ds and str(ds) == before


def test_the_common_case_stays_common() -> None:
    data = file_bytes(dataset())
    assert parse(data, len(data)) is not None


def test_a_group_length_that_is_wrong_by_now_is_left_out(tmp_path: Path) -> None:
    data = save(tmp_path / "slice").read_bytes()
    head, rest = data[: -len(body(data))], body(data)
    wrong = struct.pack("<HH2sHI", 8, 0, b"UL", 4, 12)
    assert body(file_bytes(read(head + wrong + rest))) == rest


def test_what_was_changed_is_written(tmp_path: Path) -> None:
    ds = read(save(tmp_path / "slice").read_bytes())
    ds.SeriesDescription = "changed"
    del ds.KVP
    again = read(file_bytes(ds))
    assert again.SeriesDescription == "changed" and "KVP" not in again


def test_elements_of_another_encoding_among_the_others_are_written(tmp_path: Path) -> None:
    data = save(tmp_path / "slice").read_bytes()
    ds = read(data)
    tag = pydicom.tag.Tag("Manufacturer")
    ds._dict[tag] = pydicom.dataelem.RawDataElement(tag, None, 4, b"ACME", 0, True, True)
    assert read(file_bytes(ds)).Manufacturer == "ACME"


@pytest.mark.parametrize("meta", [True, False], ids=["with meta", "without"])
def test_deflated_data_are_written_as_they_lie_in_memory(tmp_path: Path, meta: bool) -> None:
    ds = dataset()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated = pydicom.dcmread(save(tmp_path / "slice", ds))
    if not meta:
        del deflated.file_meta
    again = read(file_bytes(deflated))
    assert again.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert again.PixelData == dataset().PixelData


def test_compressed_pixels_keep_their_undefined_length() -> None:
    ds = dataset()
    ds.compress(RLELossless)
    ds["PixelData"].is_undefined_length = False  # as a caller may have made it
    again = read(file_bytes(ds))
    assert again["PixelData"].is_undefined_length and (again.pixel_array == dataset().pixel_array).all()
    assert not ds["PixelData"].is_undefined_length


def test_a_dataset_of_nothing_is_a_file() -> None:
    assert len(read(file_bytes(Dataset()))) == 0


@pytest.mark.parametrize(
    "breaks",
    [lambda ds: setattr(ds["Rows"], "_value", "many"), lambda ds: setattr(ds["KVP"], "VR", "??")],
    ids=["value", "VR"],
)
def test_what_cannot_be_written_is_rejected(breaks: Any) -> None:
    ds = dataset()
    breaks(ds)
    with pytest.raises(SliceRejected, match="bad_header"):
        file_bytes(ds)

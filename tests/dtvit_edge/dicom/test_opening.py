from __future__ import annotations

import contextlib
import errno
import struct
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from dtvit_edge.dicom import opening
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.errors import SliceRejected
from tests.support.dicom_files import dataset, save


def rejection(path: Path) -> str:
    with pytest.raises(SliceRejected) as caught:
        open_dataset(path)
    return caught.value.reason.code


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert rejection(tmp_path / "a") == "empty_file"


@pytest.mark.parametrize("content", [b"hello", b"x" * 5000, b"\x89PNG\r\n\x1a\n" + b"\0" * 300, b"PKx" * 90])
def test_other_files_are_not_dicom(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert rejection(tmp_path / "a") == "not_dicom"


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    assert rejection(tmp_path / "absent") == "unreadable"
    assert rejection(tmp_path) == "unreadable"


def test_a_prefix_with_rubbish_behind_it_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 400)
    with pytest.raises(FileRejected) as caught:
        read_headers(tmp_path / "a", "a")
    assert caught.value.reason.code in ("bad_header", "not_an_image")


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])
def test_a_dataset_without_preamble_is_read(tmp_path: Path, implicit: bool) -> None:
    ds = dataset()
    with (tmp_path / "bare").open("wb") as file:
        del ds.file_meta
        ds.preamble = None
        ds.save_as(file, implicit_vr=implicit, little_endian=True)
    opened = open_dataset(tmp_path / "bare")
    assert opened.Rows == 512
    assert opened.file_meta.TransferSyntaxUID.is_implicit_VR == implicit


def test_deflated_data_are_capped_before_pydicom_inflates_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = dataset()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(tmp_path / "deflated", ds)
    assert open_dataset(path).Rows == 512
    monkeypatch.setattr(opening, "DEFLATED_BUDGET", 100_000)
    assert rejection(path) == "too_large"


def test_a_deflate_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = dataset()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(tmp_path / "bomb", ds)
    head = path.read_bytes()
    start = 132 + 12 + read_file_meta_info(path).FileMetaInformationGroupLength
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflater.compress(b"\0" * (1 << 20)) for _ in range(64)) + deflater.flush()
    assert len(bomb) < 100_000
    path.write_bytes(head[:start] + bomb)
    monkeypatch.setattr(opening, "DEFLATED_BUDGET", 32 << 20)
    assert rejection(path) == "too_large"


@pytest.mark.parametrize("lie", ["group length", "late syntax"])
def test_deflated_data_are_counted_wherever_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    ds = dataset()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if lie == "late syntax":
        ds.file_meta.MediaStorageSOPInstanceUID = "1." * 2000 + "1"
    with pydicom.config.disable_value_validation():
        path = save(tmp_path / "deflated", ds)
    if lie == "group length":
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, 140, len(data))
        path.write_bytes(data)
    assert open_dataset(path).Rows == 512
    monkeypatch.setattr(opening, "DEFLATED_BUDGET", 200_000)
    assert rejection(path) == "too_large"


def test_a_file_larger_than_the_budget_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a")
    monkeypatch.setattr(opening, "BYTE_BUDGET", path.stat().st_size - 1)
    assert rejection(path) == "too_large"


def bare(path: Path, *, implicit: bool = False, little_endian: bool = True, without: tuple[int, ...] = ()) -> Path:
    """A slice without preamble and file meta information, and without some groups."""
    ds = dataset()
    for group in without:
        for element in list(ds.group_dataset(group)):
            del ds[element.tag]
    del ds.file_meta
    ds.preamble = None
    with path.open("wb") as file:
        pydicom.dcmwrite(file, Dataset(ds), implicit_vr=implicit, little_endian=little_endian)
    return path


def test_a_bare_dataset_in_big_endian_is_read(tmp_path: Path) -> None:
    opened = open_dataset(bare(tmp_path / "bare", little_endian=False))
    assert (opened.Rows, opened.file_meta.TransferSyntaxUID) == (512, ExplicitVRBigEndian)


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])
@pytest.mark.parametrize("without", [(0x0008,), (0x0008, 0x0010), (0x0008, 0x0010, 0x0018)], ids=len)
def test_a_bare_dataset_may_begin_with_any_group(tmp_path: Path, implicit: bool, without: tuple[int, ...]) -> None:
    path = bare(tmp_path / "bare", implicit=implicit, without=without)
    assert open_dataset(path).Rows == 512
    with pytest.raises(FileRejected, match="not_ct"):  # group 0008 says what it is
        read_headers(path, "bare")


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])
def test_a_bare_dataset_that_begins_with_group_0004_is_read_or_called_a_dicomdir(
    tmp_path: Path, implicit: bool
) -> None:
    slice_bytes = bare(tmp_path / "slice", implicit=implicit).read_bytes()
    value = b"SET1"
    vr = b"" if implicit else b"CS"
    length = struct.pack("<I" if implicit else "<H", len(value))
    file_set = struct.pack("<HH", 0x0004, 0x1130) + vr + length + value
    (tmp_path / "bare").write_bytes(file_set + slice_bytes)
    assert open_dataset(tmp_path / "bare").Rows == 512
    records = struct.pack("<HH", 0x0004, 0x1220) + (b"" if implicit else b"SQ\0\0") + struct.pack("<I", 0)
    (tmp_path / "directory").write_bytes(file_set + records)
    assert rejection(tmp_path / "directory") == "dicomdir"


def test_a_header_that_cannot_be_parsed_is_a_bad_header_and_not_an_unreadable_file(tmp_path: Path) -> None:
    data = save(tmp_path / "a").read_bytes()
    place = data.index(struct.pack("<HH", 8, 0x0060))
    open_sequence = struct.pack("<HH2sHI", 8, 0x0051, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    for end in (open_sequence, open_sequence + item, open_sequence + item[:3], (open_sequence + item) * 3):
        (tmp_path / "a").write_bytes(data[:place] + end)
        with pytest.raises(FileRejected) as caught:
            read_headers(tmp_path / "a", "a")
        assert caught.value.reason.code == "bad_header"


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, "unreadable"), (errno.ESTALE, "unreadable"),
                                              (errno.EINVAL, "bad_header"), (None, "bad_header")])  # fmt: skip
def test_only_what_the_system_does_not_read_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no tag to read") if number is None else OSError(number, "said by the system")

    monkeypatch.setattr(pydicom, "dcmread", fail)
    assert rejection(save(tmp_path / "a")) == code


def test_a_copy_that_ended_in_its_header_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    data = save(tmp_path / "a").read_bytes()
    rows = data.index(struct.pack("<HH", 0x28, 0x0010))
    for end in range(400, rows, 61):
        (tmp_path / "a").write_bytes(data[:end])
        with pytest.raises(FileRejected) as caught:
            read_headers(tmp_path / "a", "a")
        assert caught.value.reason.code == "bad_header", end


def test_no_room_is_made_for_a_length_that_a_file_does_not_have(tmp_path: Path) -> None:
    data = save(tmp_path / "a").read_bytes()
    begin = data.index(struct.pack("<HH2s", 0x0008, 0x1030, b"LO"))
    (tmp_path / "a").write_bytes(data[:begin] + struct.pack("<HH2sHI", 8, 0x1030, b"UT", 0, 0x7FFFFFFE) + data[begin:])
    tracemalloc.start()
    try:
        with contextlib.suppress(SliceRejected):
            open_dataset(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()

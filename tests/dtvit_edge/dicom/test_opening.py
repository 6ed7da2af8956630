from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

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
    monkeypatch.setattr(opening, "BYTE_BUDGET", 100_000)
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
    monkeypatch.setattr(opening, "BYTE_BUDGET", 32 << 20)
    assert rejection(path) == "too_large"


def test_a_file_larger_than_the_budget_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a")
    monkeypatch.setattr(opening, "BYTE_BUDGET", path.stat().st_size - 1)
    assert rejection(path) == "too_large"

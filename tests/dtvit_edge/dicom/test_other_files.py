from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from dtvit_edge.dicom import other_files
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.other_files import other_kind
from dtvit_edge.dicom.walk import walk
from tests.support.dicom_files import save


def packed_by_zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("IM0001", content)
    return stream.getvalue()


def packed_by_tar(content: bytes, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("IM0001")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def without_magic(tar: bytes) -> bytes:
    """As tar wrote before POSIX: no magic word, and the checksum without it."""
    header = bytearray(tar[:512])
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[512:]


ARCHIVES = {
    "zip": packed_by_zip(b"x"),
    "empty zip": b"PK\x05\x06" + bytes(18),
    "tar": packed_by_tar(b"x"),
    "GNU tar": packed_by_tar(b"x", form=tarfile.GNU_FORMAT),
    "tar before POSIX": without_magic(packed_by_tar(b"x")),
    "tgz": packed_by_tar(b"x", "w:gz"),
    "gzip": gzip.compress(b"x"),
    "bzip2": bz2.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "7z": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(24),
    "rar": b"Rar!\x1a\x07\x01\0" + bytes(24),
    "zstandard": b"\x28\xb5\x2f\xfd\x20\1\x09\0\0x",
    "CD": bytes(0x8000) + b"\1CD001\1" + bytes(2041),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_are_told_by_their_bytes(kind: str) -> None:
    assert other_kind(io.BytesIO(ARCHIVES[kind])).code == "archive"


@pytest.mark.parametrize("size", [1, 131, 512, 5000, 3 << 20])
def test_zeros_are_zeros_at_every_length_and_one_byte_makes_them_something(size: int) -> None:
    assert other_kind(io.BytesIO(bytes(size))).code == "zero_file"
    assert other_kind(io.BytesIO(bytes(size) + b"\1")).code == "not_dicom"


def test_zeros_without_end_come_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_files, "_ZEROS_REACH", 5 << 20)
    stream = io.BytesIO(bytes(6 << 20) + b"x")
    assert other_kind(stream).code == "zero_file"
    assert stream.tell() == 5 << 20


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" + bytes(99), b"BM" + bytes(600), b"PK"])
def test_anything_else_is_not_dicom(content: bytes) -> None:
    assert other_kind(io.BytesIO(content)).code == "not_dicom"


def test_names_make_no_archive(tmp_path: Path) -> None:
    save(tmp_path / "slice.zip")
    (tmp_path / "IM0001").write_bytes(ARCHIVES["zip"])
    (tmp_path / "slice.dcm.gz").write_bytes(ARCHIVES["gzip"])
    (tmp_path / "text.zip").write_bytes(b"text")
    plan = discover(walk([tmp_path]))
    assert [header.path for series in plan.series for header in series.headers] == ["slice.zip"]
    assert {r.path: r.reason.code for r in plan.rejected} == {
        "IM0001": "archive",
        "slice.dcm.gz": "archive",
        "text.zip": "not_dicom",
    }

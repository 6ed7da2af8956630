"""Packed headers are the headers again, and take little memory."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from dtvit_edge import reasons
from dtvit_edge.dicom import header as header_module
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.plan import PackedParts
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.records import Records, SharedValues, pack, pack_all
from dtvit_edge.dicom.slice import PixelFault, PixelLocation, SliceHeader
from dtvit_edge.dicom.walk import Walk, walk
from dtvit_edge.spec import PixelEncoding
from tests.support.dicom_files import series
from tests.support.headers import header

PLAIN = header(5.0)
CASES = {
    "few values": header(None),
    "a state": replace(PLAIN, state=FileState(35_000, 2**61, 2**61 + 1)),
    "a folder": replace(PLAIN, file=Path("/in/a/IM1"), path="a/IM1"),
    "a link": replace(PLAIN, file=Path("/elsewhere/x"), path="a/IM1"),
    "a name that is no text": replace(PLAIN, file=Path(os.fsdecode(b"/in/\xff")), path="\\xff"),
    "a location": replace(PLAIN, pixel_location=PixelLocation(7, 9, True, b"\0digest", 7, "u1")),
    "a fault": replace(PLAIN, pixel_fault=PixelFault(reasons.TRUNCATED, "ends early")),
    "an encoding": replace(PLAIN, encoding=PixelEncoding(12, 11, False, 0.5, -1024.0, (-2000, -2000))),
    "a part of an image": replace(PLAIN, concatenation=("1.2", 1, 0), frame=3, frames=7, twin=True),
    "texts": replace(PLAIN, kernel="H30S", contrast=False, patient="0:1", accession_number="A", study_date="20260101"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_packed_header_is_the_header_again(case: SliceHeader) -> None:
    records = Records(SharedValues())
    records.add(*pack(case))
    (again,) = records
    assert vars(again) == vars(case)
    (known,) = records.packed()
    assert known == (str(case.file), case.path, case.state, pack(case))


def test_slices_of_a_series_that_is_known_are_read_as_if_it_were_not(tmp_path: Path) -> None:
    files = series(tmp_path, [0.0, 5, 10], AccessionNumber="A")
    files += series(tmp_path / "b", [0.0, 5], uid="2.25.5", SliceThickness=2, SliceLocation=3.5)
    for _ in range(2):
        with_others = [read_headers(file, file.name) for file in files]
    alone = []
    for file in files:
        header_module._series.clear()
        alone.append(read_headers(file, file.name))
    by_pydicom = [read_headers(file, file.name, fast=False) for file in files]
    assert with_others == alone == by_pydicom
    for fast, slow in zip(with_others, alone, strict=True):
        assert vars(fast[0]) == vars(slow[0])


def test_a_plan_takes_400_bytes_a_file(tmp_path: Path) -> None:
    (file,) = series(tmp_path, [0.0])
    state = FileState(35_000, 2**60, 2**60)
    (one,) = read_headers(file, "study/series/IM0000001", state=None)
    uid = "1.2.840.113619.2.55.3.2831168002.786.1259567000."
    packed = [
        pack_all(
            [
                replace(
                    one,
                    state=state,
                    file=Path(f"/data/in/study/series/IM{i:07d}"),
                    path=f"study/series/IM{i:07d}",
                    identity=replace(one.identity, sop_uid=f"{uid}{i:09d}"),
                    position_mm=(-120.5, -120.5, i / 3),
                )
            ]
        )[0]
        for i in range(2000)
    ]
    gc.collect()
    tracemalloc.start()
    records = Records(SharedValues())
    for shared, own in packed:
        records.add(shared, own[:1] + own[1:])  # bytes of their own
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(records) < 400 and sys.getsizeof(packed[0][1]) > 100


def test_a_file_that_is_known_is_not_read_again_unless_it_has_changed(tmp_path: Path) -> None:
    files = series(tmp_path, [0.0, 5, 10])
    (tmp_path / "notes.txt").write_text("no slice")
    (tmp_path / "zero.dcm").write_bytes(bytes(1000))
    walked = walk([tmp_path])
    plan = discover(walked)
    assert isinstance(plan.parts, PackedParts)
    known = plan.parts.known_files()
    assert known.keys() == {(str(entry.file), entry.path) for entry in walked.files}
    read: list[int] = []
    files[1].touch()
    again = walk([tmp_path])
    other = discover(again, known=known, progress=lambda: read.append(1))
    assert len(read) == 5 and len(other.series) == 1 and len(other.series[0].headers) == 3
    assert other.rejected == plan.rejected
    for file in (files[0], files[2]):
        file.write_bytes(b"gone")  # not looked at: the walk is of before
    assert [len(s.headers) for s in discover(Walk(again.files), known=known).series] == [3]
    assert [r.reason.code for r in discover(again).rejected] != [r.reason.code for r in other.rejected]

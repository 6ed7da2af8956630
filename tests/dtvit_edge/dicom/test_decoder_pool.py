"""Decoding apart: the same pixels and reasons as in this process, and what a crash does."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge import reasons
from dtvit_edge.dicom import bounded_process, decoder_pool
from dtvit_edge.dicom.decoder_pool import ParallelReader, read_headers_apart
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import SliceRejected
from dtvit_edge.scoring.api import headers_of
from tests.support.data import real
from tests.support.dicom_files import enhanced, save, series
from tests.support.multi_frame_files import LOCATED, rle


def headers(folder: Path) -> list[SliceHeader]:
    return headers_of(discover(walk([folder]), any_series=True))


def outcome(reader: Any, header: SliceHeader) -> Any:
    try:
        return reader.read(header).stored.tobytes()
    except SliceRejected as error:
        return error.reason, error.detail


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The children of a pool of the test's own, in the order of their starts."""
    children: list[subprocess.Popen[bytes]] = []
    start, pool = bounded_process.start, decoder_pool._Pool()
    monkeypatch.setattr(bounded_process, "start", lambda: (children.append(start()), children[-1])[1])
    monkeypatch.setattr(decoder_pool, "_pool", pool)
    yield children
    pool.close()
    assert all(child.poll() is not None for child in children)


def children_do(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Children run this instead of parsing and decoding."""
    monkeypatch.setattr(bounded_process, "_BOOT", f"import sys; sys.path[:] = sys.argv[1:]; {code}")


def dies_by(name: str) -> str:
    return f"import os, signal; os.read(0, 1 << 16); os.kill(os.getpid(), signal.{name})"


def limited(**limits: float) -> str:
    """A real child with limits of its own."""
    changes = "; ".join(f"child.{name} = {value}" for name, value in limits.items())
    return f"import dtvit_edge.dicom.decoder_process as child; {changes}; child.main()"


def test_every_encoding_is_read_as_in_this_process(started: list[Any]) -> None:
    every_header = headers(real("transfer-syntaxes"))
    assert len(every_header) > 10
    with ParallelReader() as reader, ThreadPoolExecutor(3) as pool:
        apart = list(pool.map(lambda header: outcome(reader, header), every_header))
    here = SliceReader()
    assert apart == [outcome(here, header) for header in every_header]
    assert any(isinstance(answer, tuple) for answer in apart), "a codec is missing for some"
    assert 1 <= len(started) <= 3, "one process a thread at most"
    assert sum(child.poll() is None for child in started) <= 1, "all but one ended with the reader"


def test_readers_that_are_open_at_once_leave_each_other_a_process(
    monkeypatch: pytest.MonkeyPatch, started: list[Any]
) -> None:
    answers = "import os\nwhile os.read(0, 65536): os.write(1, b'P' + bytes(8))"
    children_do(monkeypatch, f"exec({answers!r})")
    pool = decoder_pool._pool
    with ParallelReader(), ParallelReader():
        with ParallelReader(), pool.process() as one, pool.process() as two, pool.process() as three:
            for process in (one, two, three):
                assert process.ask((), 0) == (b"P", b"")
        assert sum(child.poll() is None for child in started) == 2, "one who leaves takes no process of the others'"
    assert sum(child.poll() is None for child in started) == 1


def test_plain_files_need_no_process(tmp_path: Path, started: list[Any]) -> None:
    series(tmp_path, [0, 5, 10], uid="2.25.3")
    with ParallelReader() as reader:
        assert len([reader.read(header) for header in headers(tmp_path)]) == 3
    assert started == []


@pytest.mark.parametrize("name", ["plain", "RLE"])
def test_frames_of_plain_and_rle_files_need_a_process_for_their_header_alone(
    tmp_path: Path, started: list[Any], name: str
) -> None:
    write, expected = LOCATED[name]
    planned = read_headers_apart(write(tmp_path / "a"), "a")
    (child,) = started
    child.kill()
    child.wait()
    with ParallelReader() as reader:
        assert [outcome(reader, header) for header in planned] == [frame.tobytes() for frame in expected]
    assert len(started) == 1


def test_what_is_wrong_with_a_frame_comes_through_with_its_header(tmp_path: Path, started: list[Any]) -> None:
    planned = read_headers_apart(save(tmp_path / "a", rle(NumberOfFrames=6)), "a")
    with ParallelReader() as reader:
        answers = [outcome(reader, header) for header in planned]
    assert answers[-1] == (reasons.TRUNCATED, "5 fragments of compressed pixels for 6 frames")
    assert not any(isinstance(answer, tuple) for answer in answers[:-1])


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL"])
def test_a_process_that_ends_between_two_files_loses_none(tmp_path: Path, started: list[Any], name: str) -> None:
    """It may have been damaged by the file before, or have been killed from outside."""
    series(tmp_path, [0, 5], uid="2.25.3")
    first, second = headers(tmp_path)
    with ParallelReader(fast=False) as reader:
        expected = outcome(reader, first), outcome(reader, second)
        os.kill(started[0].pid, getattr(signal, name))
        started[0].wait()
        assert (outcome(reader, first), outcome(reader, second)) == expected
    assert len(started) == 2


@pytest.mark.parametrize(
    ("code", "reason", "detail", "starts"),
    [
        (dies_by("SIGSEGV"), reasons.DECODE_FAILED, "the decoder's process ended by SIGSEGV", 1),
        (dies_by("SIGABRT"), reasons.DECODE_FAILED, "the decoder's process ended by SIGABRT", 1),
        (dies_by("SIGPROF"), reasons.DECODE_FAILED, "more than 2 s of CPU time", 1),
        ("raise SystemExit(77)", reasons.TOO_LARGE, "more than 1024 MiB of memory", 1),
        (dies_by("SIGKILL"), reasons.DECODER_LOST, "the decoder's process ended by SIGKILL", 2),
        (dies_by("SIGTERM"), reasons.DECODER_LOST, "the decoder's process ended by SIGTERM", 2),
        ("import time; time.sleep(60)", reasons.DECODER_LOST, "no answer in 0.2 s", 1),
        ("import os; os.read(0, 1); os.write(1, b'P' * 99)", reasons.DECODE_FAILED, "its pixels", 1),
        ("import os; os.read(0, 1); os.write(1, b'R' + bytes(8))", reasons.DECODE_FAILED, "", 1),
    ],
    ids=["SIGSEGV", "SIGABRT", "CPU time", "memory", "SIGKILL", "SIGTERM", "standing still", "a long answer", "empty"],
)
def test_how_a_process_ends_is_that_slices_row(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[Any],
    code: str,
    reason: reasons.Reason,
    detail: str,
    starts: int,
) -> None:
    series(tmp_path, [0], uid="2.25.3")
    (header,) = headers(tmp_path)
    if "0.2 s" in detail:
        monkeypatch.setattr(bounded_process, "PATIENCE_S", 0.2)
    children_do(monkeypatch, code)
    for frames in (1, 5):
        with ParallelReader(fast=False) as reader:
            answer = outcome(reader, replace(header, frames=frames))
        assert answer[0] == reason and detail in answer[1]
        assert len(started) == starts
        started.clear()


def test_a_process_that_cannot_begin_is_that_slices_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]
) -> None:
    series(tmp_path, [0], uid="2.25.3")
    (header,) = headers(tmp_path)

    def no_process() -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(bounded_process, "start", no_process)
    with ParallelReader(fast=False) as reader:
        assert outcome(reader, header) == (reasons.DECODER_LOST, "BlockingIOError")
    assert reasons.DECODER_LOST.code in reasons.PASSING


def test_a_reason_and_its_detail_come_through(tmp_path: Path, started: list[Any]) -> None:
    series(tmp_path, [0], uid="2.25.3")
    (header,) = headers(tmp_path)
    header.file.write_bytes(header.file.read_bytes()[:-100])
    with ParallelReader(fast=False) as reader:
        assert outcome(reader, header) == outcome(SliceReader(fast=False), header)
        gone = replace(header, file=tmp_path / "gone")
        assert outcome(reader, gone) == outcome(SliceReader(fast=False), gone)
    assert len(started) == 1


HALF_A_MILLION = 500_000


def with_element(path: Path, element: bytes) -> Path:
    """A slice with an element (0008,2218) Anatomic Region Sequence, which sends it to pydicom and is looked into."""
    data = save(path).read_bytes()
    place = data.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    path.write_bytes(data[:place] + element + data[place:])
    return path


@pytest.mark.parametrize("defined", [True, False], ids=["defined length", "undefined length"])
def test_a_sequence_of_half_a_million_empty_items_ends_with_its_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any], defined: bool
) -> None:
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * HALF_A_MILLION
    length, end = (len(items), b"") if defined else (0xFFFFFFFF, struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    path = with_element(tmp_path / "a", struct.pack("<HH2sHI", 8, 0x2218, b"SQ", 0, length) + items + end)
    children_do(monkeypatch, limited(CPU_SECONDS=0.2))
    with pytest.raises(FileRejected, match="CPU time") as caught:
        read_headers_apart(path, "a")
    assert caught.value.reason == reasons.BAD_HEADER


def test_a_header_that_does_not_fit_into_memory_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]
) -> None:
    path = with_element(tmp_path / "a", struct.pack("<HH2sHI", 8, 0x2218, b"UN", 0, 1 << 25) + bytes(1 << 25))
    children_do(monkeypatch, limited(SPARE_BYTES=1 << 24))
    with pytest.raises(FileRejected) as caught:
        read_headers_apart(path, "a")
    assert caught.value.reason == reasons.TOO_LARGE


def test_headers_read_apart_are_those_read_here(tmp_path: Path, started: list[Any]) -> None:
    frames = np.zeros((3, 64, 80), np.uint16)
    files = [
        save(tmp_path / "multi", enhanced(frames, shared_rescale=False, intercepts=[-1024.0, 0.0, 1.5])),
        save(tmp_path / "padded", PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1500),
        save(tmp_path / "bare", ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None),
        save(tmp_path / "names", StudyDescription="Schädel", PatientAge="018M", SpecificCharacterSet="ISO_IR 100"),
    ]
    for file in files:
        here = read_headers(file, file.name, fast=False)
        assert read_headers_apart(file, file.name, fast=False, state=here[0].state) == here
        assert read_headers_apart(file, file.name)[0].state == here[0].state
    for file in (save(tmp_path / "mr", Modality="MR"), save(tmp_path / "no uid", StudyInstanceUID="")):
        with pytest.raises(FileRejected) as here_error:
            read_headers(file, file.name, fast=False)
        with pytest.raises(FileRejected) as error:
            read_headers_apart(file, file.name, fast=False)
        assert str(error.value) == str(here_error.value)
        assert (error.value.identity, error.value.frames) == (here_error.value.identity, here_error.value.frames)
    assert len(started) == 1


def test_other_files_need_no_process(tmp_path: Path, started: list[Any]) -> None:
    (tmp_path / "a.txt").write_text("not DICOM" * 100)
    (tmp_path / "b").write_bytes(b"")
    assert [str(r.reason) for r in discover(walk([tmp_path])).rejected] == ["not_dicom", "empty_file"]
    assert started == []


def test_damaged_files_that_ended_a_run_are_rows_and_whole_ones_beside_them_are_read(started: list[Any]) -> None:
    with ParallelReader() as reader:
        for header in headers(real("hostile")):
            assert outcome(reader, header)[0] == reasons.DECODE_FAILED, header.path
            assert outcome(reader, replace(header, frame=2, frames=2))[0] == reasons.DECODE_FAILED, header.path

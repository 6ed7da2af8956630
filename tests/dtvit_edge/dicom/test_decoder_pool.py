"""Decoding apart: the same pixels and reasons as in this process, and what a crash does."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge import reasons
from dtvit_edge.dicom import decoder_pool
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import SliceRejected
from dtvit_edge.scoring.api import headers_of
from tests.support.data import real
from tests.support.dicom_files import series


def headers(folder: Path) -> list[SliceHeader]:
    return headers_of(discover(walk([folder]), any_series=True))


def outcome(reader: Any, header: SliceHeader) -> Any:
    try:
        return reader.read(header).stored.tobytes()
    except SliceRejected as error:
        return error.reason, error.detail


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    children: list[subprocess.Popen[bytes]] = []
    start = decoder_pool._start
    monkeypatch.setattr(decoder_pool, "_start", lambda: (children.append(start()), children[-1])[1])
    return children


def test_every_encoding_is_read_as_in_this_process(started: list[Any]) -> None:
    every_header = headers(real("transfer-syntaxes"))
    assert len(every_header) > 10
    with ParallelReader() as reader, ThreadPoolExecutor(3) as pool:
        apart = list(pool.map(lambda header: outcome(reader, header), every_header))
    here = SliceReader()
    assert apart == [outcome(here, header) for header in every_header]
    assert any(isinstance(answer, tuple) for answer in apart), "a codec is missing for some"
    assert 1 <= len(started) <= 3, "one process a thread at most"
    assert all(child.poll() is not None for child in started), "they ended with the reader"


def test_plain_files_need_no_process(tmp_path: Path, started: list[Any]) -> None:
    series(tmp_path, [0, 5, 10], uid="2.25.3")
    with ParallelReader() as reader:
        assert len([reader.read(header) for header in headers(tmp_path)]) == 3
    assert started == []


def test_a_crash_is_one_slices_and_the_next_has_a_new_process(tmp_path: Path, started: list[Any]) -> None:
    series(tmp_path, [0, 5], uid="2.25.3")
    first, second = headers(tmp_path)
    with ParallelReader(fast=False) as reader:
        expected = reader.read(second).stored
        os.kill(started[0].pid, signal.SIGSEGV)
        started[0].wait()
        with pytest.raises(SliceRejected) as caught:
            reader.read(first)
        assert caught.value.reason == reasons.DECODE_FAILED
        np.testing.assert_array_equal(reader.read(second).stored, expected)
    assert len(started) == 2


def test_a_process_that_cannot_begin_is_that_slices_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path, [0], uid="2.25.3")
    (header,) = headers(tmp_path)

    def no_process() -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(decoder_pool, "_start", no_process)
    with ParallelReader(fast=False) as reader:
        assert outcome(reader, header) == (reasons.DECODE_FAILED, "the decoder's process ended: BlockingIOError")


def test_a_reason_and_its_detail_come_through(tmp_path: Path, started: list[Any]) -> None:
    series(tmp_path, [0], uid="2.25.3")
    (header,) = headers(tmp_path)
    header.file.write_bytes(header.file.read_bytes()[:-100])
    with ParallelReader(fast=False) as reader:
        assert outcome(reader, header) == outcome(SliceReader(fast=False), header)
        gone = replace(header, file=tmp_path / "gone")
        assert outcome(reader, gone) == outcome(SliceReader(fast=False), gone)
    assert len(started) == 1

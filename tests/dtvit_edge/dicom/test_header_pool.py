"""Headers read by several processes are those that one reads, whatever becomes of the processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.dicom import header_pool, header_process
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.walk import walk
from tests.support.dicom_files import enhanced, save, series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of every kind: plain ones, two frames that pydicom reads, strays, and broken ones."""
    series(tmp_path / "a", [5.0 * i for i in range(12)])
    frames = np.zeros((2, 64, 64), np.uint16)
    save(tmp_path / "b" / "two", enhanced(frames, shared_rescale=True, intercepts=[-1024.0, -1024.0]))
    (tmp_path / "a" / "IM9").write_bytes(b"no slice")
    (tmp_path / "a" / "notes.txt").write_bytes(b"")
    save(tmp_path / "c" / "mr", Modality="MR", SOPInstanceUID="2.25.42")
    return tmp_path


@pytest.fixture(autouse=True)
def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_pool, "LEAST_FILES", 1)
    monkeypatch.setattr(header_pool, "usable_cores", lambda: 2)
    monkeypatch.setattr(header_pool, "_A_REQUEST", 3)


def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with monkeypatch.context() as patched:
        patched.setattr(header_pool, "LEAST_FILES", 10**9)
        return list(header_pool.read_files(walk([folder]).files))


def test_processes_answer_as_this_one_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    start = header_pool._start
    monkeypatch.setattr(header_pool, "_start", lambda: begun.append(start()) or begun[-1])  # type: ignore[func-returns-value]
    assert list(header_pool.read_files(walk([folder]).files)) == here(folder, monkeypatch)
    assert len(begun) == 2 and all(child.poll() is not None for child in begun)
    plan = discover(walk([folder]))
    assert len(plan.series) == 2 and {r.reason.code for r in plan.rejected} == {"broken_file", "not_dicom", "not_ct"}


@pytest.mark.parametrize("fate", ["killed", "never begins", "lies", "says too little"])
def test_files_of_a_process_that_is_lost_are_read_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    expected = here(folder, monkeypatch)
    start, ask = header_pool._start, header_process.ask

    def killed(*arguments: Any) -> Any:
        child = start()
        child.send_signal(signal.SIGKILL)
        return child

    def never() -> Any:
        raise OSError("no more processes")

    def lies(stdin: Any, stdout: Any, questions: Sequence[Any]) -> Any:
        answered = ask(stdin, stdout, questions)
        return 7 if fate == "lies" else (answered[0], answered[1][:-1])

    if fate in ("lies", "says too little"):
        monkeypatch.setattr(header_pool, "ask", lies)
    else:
        monkeypatch.setattr(header_pool, "_start", killed if fate == "killed" else never)
    assert list(header_pool.read_files(walk([folder]).files)) == expected


def test_processes_end_with_the_one_that_asks_no_further(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    start = header_pool._start
    monkeypatch.setattr(header_pool, "_start", lambda: begun.append(start()) or begun[-1])  # type: ignore[func-returns-value]
    reading = header_pool.read_files(walk([folder]).files)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert len(begun) == 2 and all(child.poll() is not None for child in begun)


def test_the_child_answers_until_its_requests_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = walk([folder / "a"]).files
    questions = [(str(e.file), e.path, None if e.state is None else (*e.state,)) for e in files]
    asked, answered = io.BytesIO(), io.BytesIO()
    with pytest.raises(EOFError):
        header_process.ask(asked, io.BytesIO(), questions)

    class Stream:
        def __init__(self, buffer: io.BytesIO) -> None:
            self.buffer = buffer

    asked.seek(0)
    monkeypatch.setattr("sys.stdin", Stream(asked))
    monkeypatch.setattr("sys.stdout", Stream(answered))
    header_process.main()
    answered.seek(0)
    shared, answers = header_process.ask(io.BytesIO(), answered, questions)
    assert len(shared) == 1 and len(answers) == len(files)
    # Its stray text is left to the asker, and the next slice to a file that is gone.
    assert [answer for answer in answers if not isinstance(answer, list)] == [None, None]
    os.unlink(files[0].file)
    assert header_process.read(*questions[0]) is None

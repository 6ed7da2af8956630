"""The headers of many files: in this process where they are few, else in one a core as well.

The common case alone is read by the others (`header_process`); what pydicom has to look at is parsed within bounds
(`decoder_pool`), as is every file of a process that was lost.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeAlias

from dtvit_edge.dicom.decoder_pool import read_headers_apart
from dtvit_edge.dicom.header import FileRejected
from dtvit_edge.dicom.header_process import BOOT, Question, ask
from dtvit_edge.dicom.records import Packed, pack_all
from dtvit_edge.dicom.walk import StudyFile
from dtvit_edge.environment import usable_cores

# A file's packed headers, or why it is rejected as a whole: code, detail, UIDs and frames.
FileHeaders: TypeAlias = list[Packed] | tuple[str, str, tuple[str, str, str], int]

# A process takes 0.2 s to begin, in which this one reads as many files.
LEAST_FILES = 2000
MOST_PROCESSES = 8
_A_REQUEST = 128  # files


def read_files(files: Sequence[StudyFile], *, fast: bool = True) -> Iterator[FileHeaders]:
    """What is in each file, in the order given."""
    processes = min(usable_cores(), MOST_PROCESSES)
    if not fast or len(files) < LEAST_FILES or processes < 2:
        for entry in files:
            yield _read_here(entry, fast)
        return
    with _Processes(processes) as pool, ThreadPoolExecutor(processes, thread_name_prefix="headers") as threads:
        under_way: deque[tuple[Sequence[StudyFile], Future[Any]]] = deque()
        try:
            for start in range(0, len(files), _A_REQUEST):
                part = files[start : start + _A_REQUEST]
                under_way.append((part, threads.submit(pool.ask, part)))
                if len(under_way) > 2 * processes:
                    yield from _answers(*under_way.popleft())
            while under_way:
                yield from _answers(*under_way.popleft())
        finally:
            pool.end()  # else the threads would wait for answers that nobody wants any more


def _answers(files: Sequence[StudyFile], future: Future[Any]) -> Iterator[FileHeaders]:
    answered = future.result()
    if answered is None:
        yield from (_read_here(entry, True) for entry in files)
        return
    shared, answers = answered
    for entry, answer in zip(files, answers, strict=True):
        if isinstance(answer, list):
            yield [(shared[number], own) for number, own in answer]
        else:
            yield _read_here(entry, True) if answer is None else answer


def _read_here(entry: StudyFile, fast: bool) -> FileHeaders:
    try:
        return pack_all(read_headers_apart(entry.file, entry.path, fast=fast, state=entry.state))
    except FileRejected as error:
        uids = error.identity
        return error.reason.code, error.detail, (uids.study_uid, uids.series_uid, uids.sop_uid), error.frames


class _Processes:
    """Children that read headers; a context manager, whose end ends them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._children: list[subprocess.Popen[bytes]] = []
        self._idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()

    def __enter__(self) -> _Processes:
        for _ in range(self._count):
            try:
                child = _start()
            except (OSError, ValueError):  # no more processes, memory or descriptors: the files are read here
                self._idle.put(None)
                continue
            self._children.append(child)
            self._idle.put(child)
        return self

    def __exit__(self, *details: object) -> None:
        self.end()

    def ask(self, files: Sequence[StudyFile]) -> tuple[list[Any], list[Any]] | None:
        """Let a child read some files; None where it is lost."""
        child = self._idle.get()
        if child is None:
            self._idle.put(None)
            return None
        assert child.stdin is not None and child.stdout is not None
        try:
            questions: list[Question] = [(str(e.file), e.path, None if e.state is None else (*e.state,)) for e in files]
            shared, answers = ask(child.stdin, child.stdout, questions)
            if len(answers) != len(files):
                raise ValueError
        except (OSError, EOFError, ValueError, TypeError):
            child.kill()
            self._idle.put(None)
            return None
        self._idle.put(child)
        return shared, answers

    def end(self) -> None:
        """End the children."""
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()
            for stream in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    assert stream is not None
                    stream.close()
        self._children.clear()


def _start() -> subprocess.Popen[bytes]:
    """A child in its own session: an interrupt is for the run, which ends its processes."""
    return subprocess.Popen(
        [sys.executable, "-c", BOOT, *map(os.path.abspath, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

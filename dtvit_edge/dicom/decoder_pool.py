"""Parsing and decoding of all that is out of the ordinary, in child processes within bounds (`bounded_process`).

Decoders are C and C++ that strangers' bytes can crash, hang and make take all memory, and pydicom takes a minute for a
header of half a million empty items. What ends is the child, and of the run one file. Besides, gdcm and openjpeg hold
Python's lock, so that threads would take turns. Plain and RLE pixels are read in the process itself, frame by frame
(`located_pixels`).
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dtvit_edge import reasons
from dtvit_edge.dicom.bounded_process import BoundedProcess
from dtvit_edge.dicom.decoder_process import FILE_REJECTED, PIXELS
from dtvit_edge.dicom.header import FileRejected, read_fast_headers
from dtvit_edge.dicom.header_text import headers_from_text, rejection_from_text
from dtvit_edge.dicom.opening import check_begins_as_dicom
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.planned_file import FileState, present_state
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity

_LONGEST_REJECTION = 1 << 14
_LONGEST_HEADERS = 1 << 26  # 16,384 frames of 2 KB, more than `header` accepts of one file


class ParallelReader:
    """Reads slices as `SliceReader` does, from many threads; a context manager, whose end ends the processes but one.

    Args:
        fast: as for `SliceReader`.
    """

    def __init__(self, *, fast: bool = True) -> None:
        self._here = SliceReader(fast=fast)

    def __enter__(self) -> ParallelReader:
        _pool.enter()
        return self

    def __exit__(self, *details: object) -> None:
        _pool.leave()

    def read(self, header: SliceHeader) -> Slice:
        """See `SliceReader.read`; what is neither plain nor RLE is decoded in a child process.

        Raises:
            SliceRejected: as there, and `decoder_lost`.
        """
        if (fast_slice := self._here.read_fast(header)) is not None:
            return fast_slice
        with _pool.of_multi_frame() if header.frames > 1 else _pool.process() as process:
            return _decoded(process, header)


def read_headers_apart(
    file: Path, path: str, *, fast: bool = True, state: FileState | None = None
) -> tuple[SliceHeader, ...]:
    """As `header.read_headers`; what pydicom parses it parses in a child process.

    Raises:
        FileRejected: as there, and where parsing takes too much CPU time (`bad_header`) or memory (`too_large`), or its
            process was lost (`decoder_lost`).
    """
    state = state or present_state(file)
    if fast and (headers := read_fast_headers(file, path, state)) is not None:
        return headers
    try:
        check_begins_as_dicom(file, state)  # a child for each stray text would cost more than the text
        with _pool.process() as process:
            letter, body = process.ask((str(file), path, state), _LONGEST_HEADERS)
        if letter == FILE_REJECTED:
            raise rejection_from_text(body)
        return headers_from_text(body, file, path, state)
    except FileRejected:
        raise
    except SliceRejected as error:
        reason = reasons.BAD_HEADER if error.reason == reasons.DECODE_FAILED else error.reason
        raise FileRejected(SliceRejected(reason, error.detail), Identity(), 1) from error
    except Exception as error:
        raise FileRejected(SliceRejected(reasons.BAD_HEADER, type(error).__name__), Identity(), 1) from error


def _decoded(process: BoundedProcess, header: SliceHeader) -> Slice:
    size = 2 * header.rows * header.columns
    letter, body = process.ask((header,), max(size, _LONGEST_REJECTION))
    if letter == PIXELS and len(body) == size:
        return Slice(header, np.frombuffer(body, np.uint16).reshape(header.rows, header.columns))
    code, _, detail = body.decode("utf-8", "replace").partition("\0")
    raise SliceRejected(reasons.REASONS.get(code, reasons.DECODE_FAILED), detail)


class _Pool:
    """The processes of this one, as many as threads ask at once."""

    def __init__(self) -> None:
        self._idle: list[BoundedProcess] = []
        self._readers = 0
        self._changing = threading.Lock()
        # One for all multi-frame files: each of several would hold the whole file.
        self._multi_frame = BoundedProcess()
        self._decoding = threading.Lock()

    @contextmanager
    def process(self) -> Iterator[BoundedProcess]:
        """One that nobody else uses meanwhile."""
        with self._changing:
            process = self._idle.pop() if self._idle else BoundedProcess()
        try:
            yield process
        finally:
            with self._changing:
                self._idle.append(process)

    @contextmanager
    def of_multi_frame(self) -> Iterator[BoundedProcess]:
        """The one that keeps the last multi-frame file; others wait for it meanwhile."""
        with self._decoding:
            yield self._multi_frame

    def enter(self) -> None:
        """Another reader is open."""
        with self._changing:
            self._readers += 1

    def leave(self) -> None:
        """A reader is closed; each other one keeps a process, and the last one leaves one for the next."""
        with self._changing:
            self._readers = readers = max(self._readers - 1, 0)  # a fork begins at 0, amid its parent's
        self.close(kept=max(readers, 1), multi_frame=not readers)

    def close(self, kept: int = 0, *, multi_frame: bool = True) -> None:
        """End those that are idle, but some: another run need not wait for their imports."""
        with self._changing:
            ending, self._idle = self._idle[kept:], self._idle[:kept]
        for process in ending:
            process.close()
        if multi_frame and self._decoding.acquire(blocking=False):
            self._multi_frame.close()
            self._decoding.release()


def _begin_anew() -> None:
    """In a fork, whose parent goes on with the processes."""
    global _pool
    _pool = _Pool()


_pool = _Pool()
atexit.register(lambda: _pool.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

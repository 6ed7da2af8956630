"""The child that parses and decodes, with its limits (`bounded_process`): requests on stdin, answers on stdout."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import IO, Any

from dtvit_edge.dicom.bounded_process import ANSWER, CPU_SECONDS, OUT_OF_MEMORY, SPARE_BYTES
from dtvit_edge.dicom.fast_header import COMPRESSED
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.header_text import headers_as_text, rejection_as_text
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.errors import SliceRejected

# Letters of the answers.
PIXELS, HEADERS, REJECTED, FILE_REJECTED = b"P", b"H", b"R", b"F"
_LONGEST_DETAIL = 1000


def main() -> None:
    """Answer until the requests end. What libraries print goes nowhere, not into the answers."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    _limit_memory()
    serve(sys.stdin.buffer, answers)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the requests end.

    Args:
        requests: pickles of `(header,)`, whose frame is to be decoded, or `(file, path, state)`, whose headers are to
            be read.
    """
    reader = SliceReader(fast=False, opened=_restart_clock)
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        _restart_clock()
        try:
            letter, body = _answer(reader, request)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # what is left of this process may fail anywhere
        _stop_clock()
        rest = memoryview(ANSWER.pack(letter, len(body)) + body)
        while rest:
            rest = rest[answers.write(rest) :]


def _answer(reader: SliceReader, request: tuple[Any, ...]) -> tuple[bytes, bytes]:
    try:
        if len(request) == 1:
            return PIXELS, reader.read(request[0]).stored.tobytes()
        file, path, state = request
        return HEADERS, headers_as_text(read_headers(Path(file), path, fast=False, state=state)).encode()
    except FileRejected as error:
        _pass_memory_errors(error)
        return FILE_REJECTED, rejection_as_text(error).encode()
    except SliceRejected as error:
        _pass_memory_errors(error)
        return REJECTED, f"{error.reason.code}\0{error.detail[:_LONGEST_DETAIL]}".encode("utf-8", "replace")


def _pass_memory_errors(error: BaseException | None) -> None:
    while error is not None:
        if isinstance(error, MemoryError):
            raise error
        error = error.__cause__


def _limit_memory() -> None:
    """What this process has once every decoder is loaded, and `SPARE_BYTES` more; no file of its memory if it ends."""
    from pydicom.pixels import get_decoder

    for syntax in COMPRESSED:
        try:
            _ = get_decoder(syntax).is_available
        except NotImplementedError:
            continue
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):  # Windows and macOS have no such limit
        return
    size = pages * resource.getpagesize() + SPARE_BYTES
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        size = min(size, most)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold a patient's pixels


def _restart_clock() -> None:
    """From now on `CPU_SECONDS` until the system ends this process, in whatever loop of C it is."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)


def _stop_clock() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, 0)

"""Decoding in processes of their own: gdcm and openjpeg hold Python's lock, so that threads would take turns.

Each thread that asks has its own process, begun at the first file that needs one. A decoder that crashes on a damaged
file takes its process with it, and not the run.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.errors import SliceRejected


class ParallelReader:
    """A `SliceReader` for many threads; a context manager, whose end ends the processes.

    Args:
        fast: as for `SliceReader`.
    """

    def __init__(self, *, fast: bool = True) -> None:
        self._here = SliceReader(fast=fast)
        self._own = threading.local()
        self._all: list[_Process] = []

    def __enter__(self) -> ParallelReader:
        return self

    def __exit__(self, *details: object) -> None:
        for process in self._all:
            process.close()

    def read(self, header: SliceHeader) -> Slice:
        """See `SliceReader.read`. Other than common and multi-frame files are decoded in this thread's process."""
        if header.frames > 1:  # each process would hold the whole file
            return self._here.read(header)
        fast_slice = self._here.read_fast(header)
        return fast_slice if fast_slice is not None else Slice(header, self._process().decode(header))

    def _process(self) -> _Process:
        if not hasattr(self._own, "process"):
            self._own.process = _Process()
            self._all.append(self._own.process)
        process: _Process = self._own.process
        return process


class _Process:
    """A process that decodes one file after the other: a pickled header in, a pickled answer out."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, header: SliceHeader) -> NDArray[np.uint16]:
        """One frame's patterns, or what `SliceReader.read` raises."""
        try:
            child = self._child = self._child or _start()
            assert child.stdin is not None and child.stdout is not None
            pickle.dump(header, child.stdin)
            child.stdin.flush()
            answer = pickle.load(child.stdout)
        except Exception as error:  # what a dying process leaves half written is nearly anything to pickle
            self.close()
            raise SliceRejected(
                reasons.DECODE_FAILED, f"the decoder's process ended: {type(error).__name__}"
            ) from error
        if isinstance(answer, np.ndarray):
            return answer
        code, detail = answer
        raise SliceRejected(reasons.REASONS[code], detail)

    def close(self) -> None:
        """End it; another begins where one is asked again."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _start() -> subprocess.Popen[bytes]:
    # Its own session: an interrupt is for the run, which ends its processes. What decoders say may quote a name.
    command = [sys.executable, "-m", "dtvit_edge.dicom.decoder_pool"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the requests end: the patterns, or (reason, detail)."""
    reader = SliceReader(fast=False)
    while True:
        try:
            header = pickle.load(requests)
        except EOFError:
            return
        answer: Any
        try:
            answer = reader.read(header).stored
        except SliceRejected as error:
            answer = error.reason.code, error.detail
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)

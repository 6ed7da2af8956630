"""A child process that answers requests within bounds, and what its end means.

The child is trusted until it has seen a file, so that requests are pickles; its answers are not: a decoder that was
taken over would answer with whatever it likes. They are a letter, a length, and bytes of at most the size that is
expected (`ANSWER`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from typing import IO, Any

from dtvit_edge import reasons
from dtvit_edge.dicom.opening import BYTE_BUDGET
from dtvit_edge.errors import SliceRejected

ANSWER = struct.Struct("<cQ")
# In memory, beyond what the child has after its imports.
SPARE_BYTES = BYTE_BUDGET
# For opening a file, and again for one frame. 1,024 x 1,024 pixels of JPEG 2000, the slowest, take a tenth of it.
CPU_SECONDS = 2.0
# For an answer. A request that stands still that long never ends, or its disk has stalled.
PATIENCE_S = 30.0
# What the child exits with where Python itself has no memory left.
OUT_OF_MEMORY = 77
# Its path is this process's: `-c` alone would take the working directory's files for modules.
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from dtvit_edge.dicom.decoder_process import main; main()"
# Sent by people, or by a system that is short of memory; a decoder's crash has other signals.
_OUTSIDE = tuple(-getattr(signal, name, 0) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"))
_OUT_OF_TIME = -getattr(signal, "SIGPROF", 0)
_PIPE_BYTES = 1 << 20  # holds a usual frame, so that the child need not wait for its reader


class BoundedProcess:
    """One child, begun at the first request, and anew behind each end. For one thread at a time."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: tuple[Any, ...], largest: int) -> tuple[bytes, bytearray]:
        """The answer's letter and bytes.

        A child that was killed from outside is no fault of the file, and one that crashes in its second request or
        later may have been damaged by an earlier one: a fresh child is asked once more.

        Args:
            request: what `decoder_process.serve` takes.
            largest: the most bytes that an answer may have.

        Raises:
            SliceRejected: `decode_failed` where a fresh child crashed, or any used up its CPU time; `too_large` where
                it used up its memory; `decoder_lost`, which may pass, where it could not begin, stood still, or was
                killed twice.
        """
        message = pickle.dumps(request)
        for is_last in (False, True):
            is_fresh = self._child is None
            try:
                self._child = child = self._child or start()
            except (OSError, ValueError) as error:  # no more processes, memory or descriptors
                raise SliceRejected(reasons.DECODER_LOST, type(error).__name__) from error
            try:
                return _exchange(child, message, largest)
            except TimeoutError as error:
                self.close()
                raise SliceRejected(reasons.DECODER_LOST, f"no answer in {PATIENCE_S:g} s") from error
            except (OSError, EOFError) as error:
                self._child = None
                status = _end(child)
                if status == _OUT_OF_TIME or (status not in _OUTSIDE and (is_fresh or is_last)):
                    reason = reasons.TOO_LARGE if status == OUT_OF_MEMORY else reasons.DECODE_FAILED
                    raise SliceRejected(reason, _ending(status)) from error
                if is_last:
                    raise SliceRejected(reasons.DECODER_LOST, _ending(status)) from error
            except BaseException:  # amid an answer, whose rest would be taken for the next one
                self.close()
                raise
        raise AssertionError("unreachable: the last of two tries returns or raises")

    def close(self) -> None:
        """End the child; the next request begins another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            _end(child)


def start() -> subprocess.Popen[bytes]:
    """A child that has not answered yet.

    Its own session: an interrupt is for the run, which ends its processes. What decoders say may quote a name.

    Raises:
        OSError: it cannot begin.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", _BOOT, *map(os.path.abspath, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
    )
    if sys.platform == "linux" and sys.version_info >= (3, 10):
        import fcntl

        assert child.stdout is not None
        with contextlib.suppress(OSError):  # the user's pipes hold as much as they may already
            fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return child


def _exchange(child: subprocess.Popen[bytes], message: bytes, largest: int) -> tuple[bytes, bytearray]:
    """Ask and read the answer; an `OSError` or `EOFError` is the child's end."""
    assert child.stdin is not None and child.stdout is not None
    end = time.monotonic() + PATIENCE_S
    child.stdin.write(message)
    letter, length = ANSWER.unpack(_read(child.stdout, ANSWER.size, end))
    if length > largest:
        raise SliceRejected(reasons.DECODE_FAILED, "the decoder's answer is longer than its pixels")
    return letter, _read(child.stdout, length, end)


def _read(stream: IO[bytes], size: int, end: float) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    poll = select.poll() if hasattr(select, "poll") else None  # Windows has none, and then no limit of time
    if poll is not None:
        poll.register(stream, select.POLLIN)
    while rest:
        if poll is not None and not poll.poll(max(0.0, (end - time.monotonic()) * 1000)):
            raise TimeoutError
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def _end(child: subprocess.Popen[bytes]) -> int:
    """Its status. One that closed its answers and lives on is killed; one that waits for a disk is not waited for."""
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    for _ in range(2):
        try:
            return child.wait(1.0)
        except subprocess.TimeoutExpired:
            child.kill()
    return 0


def _ending(status: int) -> str:
    """How a process ended, in words."""
    if status == _OUT_OF_TIME:
        return f"more than {CPU_SECONDS:g} s of CPU time"
    if status == OUT_OF_MEMORY:
        return f"more than {SPARE_BYTES >> 20} MiB of memory"
    if status >= 0:
        return f"the decoder's process ended with status {status}"
    try:
        return f"the decoder's process ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"the decoder's process ended by signal {-status}"

"""One run a folder: two that wrote into one would mix their batches.

The lock lies on a file of its own, which nothing but the lock removes: on the journal it would be lost with
`--overwrite`, and a folder cannot be locked on every file system. What a killed process left locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import open_file, unusable, write_all

FILE_NAME = ".lock"
_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})

log = logging.getLogger(__name__)


class FolderLock:
    """Holds a folder for this process; a context manager.

    Args:
        folder: has to be there.
        one: of the things in it, where that alone is held, under a lock of its own.
    """

    def __init__(self, folder: Path, one: str = "") -> None:
        self._path = folder / (f".{one}{FILE_NAME}" if one else FILE_NAME)
        self._held = folder / one
        self._descriptor: int | None = None

    def __enter__(self) -> FolderLock:
        """Take the lock, without waiting.

        Raises:
            ConfigError: another process holds it, or the folder cannot be written.
        """
        try:
            self._descriptor = self._taken()
            os.ftruncate(self._descriptor, 0)
            write_all(self._descriptor, json.dumps(_this_process()).encode())
        except OSError as error:
            self._release()
            raise unusable(self._path.parent, error) from error
        return self

    def __exit__(self, *details: object) -> None:
        self._release()

    def _taken(self) -> int:
        while True:
            descriptor = open_file(self._path, os.O_RDWR | os.O_CREAT)
            try:
                _lock(descriptor, self._held)
                # Its last holder may have removed the file between `open` and `flock`: that lock keeps nobody out.
                if _is_still(self._path, descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _release(self) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # the folder may be gone, or read-only by now
            if _is_still(self._path, self._descriptor):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks; the run's digest still keeps different runs apart
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise ConfigError(f"{folder}: another process is writing this run{_holder(descriptor)}") from error
        log.warning("this file system has no locks (%s): see to it that one run alone writes here", error.strerror)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, str | int]:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


def _holder(descriptor: int) -> str:
    """Who holds the lock, as it says itself; nothing where it has not said so yet."""
    try:
        said = json.loads(os.pread(descriptor, 1000, 0))
        # Anybody who may write to the folder can have written this.
        pid, host, since = int(said["pid"]), ascii(str(said["host"])[:100])[1:-1], datetime.fromisoformat(said["since"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": process {pid} on {host}, since {since.isoformat(timespec='seconds')}"

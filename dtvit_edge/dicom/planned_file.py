"""Open a file only if it is regular, and still the one that was planned.

Between the walk and the pixels a copy, a PACS or a colleague may put another file in the place of one; its pixels would
come out under the UIDs of the first. A file's state is taken when it is found, before its header is read, and compared
on every descriptor that is opened later, before and after what is read from it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dtvit_edge import reasons
from dtvit_edge.errors import SliceRejected

# An open for reading waits at a FIFO for ever, and a terminal may become the process's own. Windows has no such flags.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# What a system takes as one path, at least: Linux has 4096 bytes, others 1024.
_REACH = 1000


class FileState(NamedTuple):
    """What tells a file from one that took its place; times in nanoseconds.

    `touch -r` and `rsync -t` keep `modified_ns`; `changed_ns` is the system's own and cannot be set. Device and inode
    would add nothing to it, and file systems in user space (sshfs, rclone) number an unchanged file anew.
    """

    size: int
    modified_ns: int
    changed_ns: int


def file_state(status: os.stat_result) -> FileState:
    """The state that a `stat` saw."""
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def present_state(file: Path) -> FileState | None:
    """A file's state as it is now; None where there is none, which opening it will explain."""
    try:
        return file_state(os.stat(file))
    except OSError:
        return None


@contextmanager
def open_planned(file: Path, state: FileState | None = None) -> Iterator[io.FileIO]:
    """A stream for reading, without a buffer, of a regular file.

    Args:
        state: what the file has to be; None takes it as it is.

    Raises:
        SliceRejected: it is no regular file, or another than the planned one, now or at the end of the block.
        OSError: it cannot be opened.
    """
    descriptor = open_any_length(os.fspath(file), _READ)
    try:
        _check(descriptor, state)
        stream = io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    with stream:
        yield stream
        _check(descriptor, state)


def open_folder(path: str) -> int:
    """A descriptor of a folder, to be closed by the caller; a path of any length.

    Raises:
        OSError: it cannot be opened for listing.
    """
    return open_any_length(path, _FOLDER | getattr(os, "O_NOFOLLOW", 0))


def open_any_length(path: str, flags: int) -> int:
    """As `os.open`, also where an absolute path is longer than the system takes at once (PATH_MAX)."""
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or not path.startswith("/"):
            raise
    # O_PATH asks for no right to list the folders in between, which the whole path would not ask for either.
    step = getattr(os, "O_PATH", os.O_RDONLY) | _FOLDER
    folder = os.open("/", step)
    rest = os.fsencode(path).lstrip(b"/")
    try:
        while len(rest) > _REACH:
            cut = rest.rindex(b"/", 0, _REACH)
            below = os.open(rest[:cut], step, dir_fd=folder)
            os.close(folder)
            folder, rest = below, rest[cut:].lstrip(b"/")
        return os.open(rest, flags, dir_fd=folder)
    except ValueError as error:  # one name alone is too long: no file has it
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from error
    finally:
        os.close(folder)


def _check(descriptor: int, state: FileState | None) -> None:
    status = os.fstat(descriptor)
    if state is not None and file_state(status) != state:
        raise SliceRejected(reasons.NOT_THE_PLANNED)
    if not stat.S_ISREG(status.st_mode):
        raise SliceRejected(reasons.UNREADABLE, "no regular file")

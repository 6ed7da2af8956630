"""Files that appear whole or not at all, and files that somebody else may have put there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# What a group or others may do to a file that nobody but its owner should change.
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def write_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text next to `path`, flush it to the disk and rename it into place."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_regular(path: Path, most_bytes: int, *, within: Path | None = None, owned: bool = False) -> bytes:
    """A regular file's bytes, and never those of a FIFO (which would be waited for) or a device (which never ends).

    Args:
        most_bytes: a larger file is not read.
        within: a folder that links may not lead out of.
        owned: refuse a file that somebody else may write or owns; see `not_ours`.

    Raises:
        OSError: with a `strerror` that says what it is.
    """
    resolved = Path(os.path.realpath(path))
    if within is not None and not resolved.is_relative_to(os.path.realpath(within)):
        raise OSError(errno.EPERM, f"it is a link that leads out of {within}", str(path))
    # What was resolved above is opened, and no link that took its place since.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(resolved, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if owned and (why := not_ours(path, status)):
            raise OSError(errno.EPERM, why, str(path))
        if status.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, at most {most_bytes} are expected", str(path))
        data = file.read(status.st_size + 1)
    if len(data) != status.st_size:
        raise OSError(errno.EIO, "it changed while it was read", str(path))
    return data


def not_ours(path: Path, status: os.stat_result | None = None) -> str:
    """Why somebody else may have written a file or folder, with what to type; empty where only we or root could.

    Args:
        status: of what was opened, where the path may have been replaced since.

    Raises:
        OSError: there is nothing.
    """
    if os.name != "posix":  # modes say nothing there
        return ""
    status = status or os.stat(path)
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to another user (uid {status.st_uid}); chown {os.geteuid()} {path}"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return f"others may write it (mode {stat.S_IMODE(status.st_mode):04o}); chmod go-w {path}"
    return ""

"""Files that appear whole or not at all, and files that somebody else may have put there.

What is written is readable by its owner's group at most: modes are those here, or what the umask leaves of them.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from dtvit_edge.errors import ConfigError, DiskFault

# What a group or others may do to a file that nobody but its owner should change.
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

FILE_MODE, FOLDER_MODE = 0o640, 0o750
# A link that somebody laid in the place of an output would lead the bytes elsewhere.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# What file systems answer that cannot flush a folder; their renames are as durable as they get.
_NO_FLUSH = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP})


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file whole or not at all; see `replaced_file`.

    Args:
        content: text is written as UTF-8, its line ends as they are.

    Raises:
        DiskFault: as `replaced_file`.
    """
    with replaced_file(path) as file:
        write_all(file.fileno(), content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, under a name of its own beside `path`; at the end it is on the disk and renamed into place.

    Raises:
        DiskFault: the disk is full, read-only, gone or broken; what lay at `path` before is untouched.
    """
    # Its own name: a second process that writes the same file must not rename what this one has half written.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with open(open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        flush_folder(path.parent)
    except OSError as error:
        raise disk_fault(path, error) from error


def parts_of(path: Path) -> list[Path]:
    """What is being written beside `path`, or was left half written by killed processes."""
    return list(path.parent.glob(f".{path.name}.*.part"))


def remove_parts(path: Path) -> None:
    """Remove what killed processes left half written beside `path`; nobody else may be writing it."""
    for part in parts_of(path):
        part.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        ConfigError: it cannot be made, or is something else.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder")
        for path in (*reversed(folder.parents), folder):
            if not path.exists():  # pathlib gives the mode to the last one alone
                path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise unusable(folder, error) from error


def is_another_process(pid: int) -> bool:
    """Whether a process of that number may run beside this one; what this one's number has left is of an earlier one.

    A container gives every run of its program the same number.
    """
    if pid == os.getpid() or os.name != "posix":  # elsewhere os.kill ends a process
        return pid != os.getpid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        pass
    return True


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file that is made with `FILE_MODE` and is no link."""
    return os.open(path, flags | _NOFOLLOW, FILE_MODE)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it: a disk that fills up takes a part and says nothing until it is asked again."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def flush_folder(folder: Path) -> None:
    """Put a folder's names on the disk: until then a power failure may take a file that was renamed into it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


def unusable(folder: Path, error: OSError) -> ConfigError:
    """What to raise where an output folder cannot be used, before anything was done."""
    return ConfigError(f"{folder} cannot be written: {_words(error)}")


def disk_fault(path: Path, error: OSError) -> DiskFault:
    """What to raise where an output fails later. Folder names can carry patients' names: the file's alone is said."""
    return DiskFault(f"the disk failed at {path.name}: {_words(error)}")


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__


def read_regular(
    path: Path, most_bytes: int, *, within: Path | None = None, owned: bool = False, secret: bool = False
) -> bytes:
    """A regular file's bytes; see `open_regular`.

    Raises:
        OSError: with a `strerror` that says what it is.
    """
    with open_regular(path, most_bytes, within=within, owned=owned, secret=secret) as (file, size):
        data = file.read(size + 1)
        if len(data) != size:
            raise changed(path)
    return data


@contextmanager
def open_regular(
    path: Path, most_bytes: int, *, within: Path | None = None, owned: bool = False, secret: bool = False
) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file and its size; never a FIFO (which would be waited for) or a device (without end).

    Args:
        most_bytes: a larger file is not opened.
        within: a folder that links may not lead out of.
        owned: refuse a file that somebody else may write or owns; see `not_ours`.
        secret: refuse one that somebody else may read, as well.

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
        if (owned or secret) and (why := not_ours(path, status)):
            raise OSError(errno.EPERM, why, str(path))
        if secret and os.name == "posix" and (mode := stat.S_IMODE(status.st_mode)) & 0o077:
            raise OSError(errno.EPERM, f"others may read it (mode {mode:04o}); chmod 600 {path}", str(path))
        if status.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, at most {most_bytes} are expected", str(path))
        yield file, status.st_size


def changed(path: Path) -> OSError:
    """What to raise where a file has another size at its end than when it was opened."""
    return OSError(errno.EIO, "it changed while it was read", str(path))


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

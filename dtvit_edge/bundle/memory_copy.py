"""A file's bytes in memory that nobody changes any more: what was hashed is what a library gets, without a second copy.

A mapping of the file itself would not do: on Linux what somebody writes into the file shows in a private mapping of it,
behind the digest (mmap(2)). So the bytes are copied once into a file that has no name and lives in memory
(memfd_create(2)), which is then sealed, and hashed there. Libraries that open paths read it under `/proc/self/fd`,
others take its mapping. Where there are no such files the bytes lie in anonymous memory, and a library that takes
neither a path nor a buffer gets one copy more.

Copying and hashing are a few calls of the system and of OpenSSL: a thread that makes such a copy asks for Python's lock
a few times only, and does not wait for others that hold it at each block.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from dtvit_edge.files import changed, open_regular, write_all

_BLOCK = 1 << 23
_DESCRIPTORS = Path("/proc/self/fd")


class MemoryCopy:
    """The bytes of a file, as they were when it was read; a context manager, at whose end they go.

    Attributes:
        sha256: of the bytes, in hexadecimal.
        memory: the bytes. They can be written, because libraries ask for buffers that can, but only in this mapping.
        path: where a library finds the same bytes while the copy is open; None where there is no such place.
    """

    def __init__(self, memory: mmap.mmap, sha256: str, descriptor: int | None = None) -> None:
        self.memory = memory
        self.sha256 = sha256
        self._descriptor = descriptor

    @classmethod
    def of_file(cls, file: Path, most_bytes: int, *, within: Path | None = None, owned: bool = False) -> MemoryCopy:
        """Copy a file; arguments as `files.open_regular`.

        Raises:
            OSError: with a `strerror` that says what it is.
        """
        with open_regular(file, most_bytes, within=within, owned=owned) as (stream, size):
            if size == 0:
                raise OSError(errno.ENODATA, "it is empty", str(file))
            descriptor = _nameless_file()
            if descriptor is None:
                memory = mmap.mmap(-1, size)
                _require_whole(file, stream, size, stream.readinto(memory))
                return cls(memory, _sha256(memory))
            try:
                _require_whole(file, stream, size, _sent(stream, descriptor, size))
                memory = _sealed(descriptor)
                return cls(memory, _sha256(memory), descriptor)
            except BaseException:
                os.close(descriptor)
                raise

    @property
    def path(self) -> str | None:
        """See the class."""
        return None if self._descriptor is None else str(_DESCRIPTORS / str(self._descriptor))

    def __enter__(self) -> MemoryCopy:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the bytes, or leave that to the last one that holds a view of them."""
        self.close_path()
        with suppress(BufferError):
            self.memory.close()

    def close_path(self) -> None:
        """Keep the bytes alone; for a library that works on `memory`."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def source_of(model: bytes | MemoryCopy) -> Iterator[str | bytes]:
    """What a library reads a model from: a path where that spares it a copy, else bytes. A copy goes at the end."""
    if isinstance(model, bytes):
        yield model
        return
    with model:
        if model.path:
            # The library makes a copy of its own: what hashing brought into this mapping would be resident beside it.
            model.memory.madvise(mmap.MADV_DONTNEED)
        yield model.path or bytes(model.memory)


def _sent(stream: BufferedReader, target: int, size: int) -> int:
    """Copy the bytes of a file that has just been opened, inside the system; returns how many there were."""
    done = 0
    try:
        while done < size and (count := os.sendfile(target, stream.fileno(), done, size - done)):
            done += count
    except OSError:
        if done:
            raise
        # A file system or a sandbox may have no sendfile(2); a file that cannot be read says so here again.
        while block := stream.read(_BLOCK):
            write_all(target, block)
            done += len(block)
    return done


def _require_whole(file: Path, stream: BufferedReader, size: int, done: int) -> None:
    """Refuse a copy of fewer bytes than the file had when it was opened, or of a file that has more now."""
    if done != size or os.fstat(stream.fileno()).st_size != size:
        raise changed(file)


def _sha256(memory: mmap.mmap) -> str:
    return hashlib.sha256(memory).hexdigest()


def _nameless_file() -> int | None:
    """A descriptor of an empty file in memory, or None where the system has none, or shows it under no path."""
    if not hasattr(os, "memfd_create") or not _DESCRIPTORS.is_dir():
        return None
    try:
        return os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:  # a sandbox may forbid it
        return None


def _sealed(descriptor: int) -> mmap.mmap:
    """A private mapping of a file that nothing can change any more."""
    import fcntl

    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)

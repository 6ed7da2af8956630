"""`preprocess.cu` as something that the driver loads: compiled once for a GPU, kept in the user's cache.

A kept kernel is named by what made it and by its own sha256, in a folder that is its user's alone. One that is empty,
has other bytes than its name says, or that others own or may write is passed over and compiled anew.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dtvit_edge.cuda.driver import cuda_version
from dtvit_edge.errors import BuildError, MissingDependency
from dtvit_edge.files import not_ours, read_regular
from dtvit_edge.preprocess.compilers import Compiler, find_compilers, how_to_install, sm_number
from dtvit_edge.preprocess.kernel import SOURCE, source_files

log = logging.getLogger(__name__)

_SHORT = 16  # digits of a digest that tell sources and compilers apart
_MOST_BYTES = 1 << 26


def compiled(sm: str, *, cache: Path | None = None, compilers: Sequence[Compiler] | None = None) -> bytes:
    """The preprocessing's kernel for a GPU; compiled at the first call, read from the cache afterwards.

    Args:
        sm: compute capability, "8.7".
        cache: a folder; the user's own by default. A file is named by what made it.
        compilers: in order of preference; those of this machine by default. Where one refuses, the next is asked.

    Raises:
        MissingDependency: nothing compiles here and the cache has nothing; with what to install.
        BuildError: every compiler refuses; with the words of each.
    """
    folder = cache or user_cache()
    asked = find_compilers() if compilers is None else compilers
    if not asked:
        if (kept := _kept(folder, f"{_name(sm)}-*")) is not None:
            return kept
        raise MissingDependency(
            f"the CUDA preprocessing must be compiled once for this GPU (SM {sm}), and neither nvcc nor NVRTC is "
            f"here: {how_to_install(cuda_version())}"
        )
    stems = [f"{_name(sm)}-{_digest(compiler.identity.encode())[:_SHORT]}" for compiler in asked]
    for stem in stems:
        if (kept := _kept(folder, stem)) is not None:
            return kept
    refusals = []
    for compiler, stem in zip(asked, stems, strict=True):
        log.info("compiling the preprocessing for SM %s with %s", sm, compiler.identity)
        try:
            binary = compiler.compile(SOURCE, sm)
        except BuildError as error:
            log.warning("%s", error)
            refusals.append(str(error))
            continue
        _keep(folder, stem, binary)
        return binary
    raise BuildError(f"{'; and '.join(refusals)}. What helps: {how_to_install(cuda_version())}")


def user_cache() -> Path:
    """Where compiled kernels of this user lie (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtvit-edge"


def _name(sm: str) -> str:
    digests = "".join(f"{path.name}:{_digest(path.read_bytes())} " for path in source_files(SOURCE))
    return f"preprocess-{_digest(digests.encode())[:_SHORT]}-sm{sm_number(sm)}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _kept(folder: Path, stem: str) -> bytes | None:
    """A kernel that was kept, if nobody else can have put it there; None where it must be compiled."""
    try:
        if not folder.is_dir() or (why := _tightened(folder)):
            if folder.is_dir():
                log.warning("%s is not used: %s", folder, why)
            return None
        for path in sorted(folder.glob(f"{stem}.*.bin")):
            try:
                binary = read_regular(path, _MOST_BYTES, within=folder, owned=True)
            except OSError as error:
                log.warning("%s is compiled anew: %s", path.name, error.strerror)
                continue
            if binary and path.name.split(".")[-2] == _digest(binary):
                return binary
            log.warning("%s is compiled anew: its bytes are not those that its name says", path.name)
    except OSError as error:
        log.warning("%s cannot be read: %s", folder, error.strerror)
    return None


def _tightened(folder: Path) -> str:
    """Make the folder its user's alone; why it cannot be, else empty."""
    status = folder.stat()
    if os.name == "posix" and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        folder.chmod(0o700)
    return not_ours(folder)


def _keep(folder: Path, stem: str, binary: bytes) -> None:
    """Write it whole or not at all; a cache that cannot be written costs time alone, and is said."""
    target = folder / f"{stem}.{_digest(binary)}.bin"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if why := _tightened(folder):
            raise PermissionError(errno.EPERM, why, str(folder))
        handle, part = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(binary)
        os.replace(part, target)
        for old in folder.glob(f"{stem}.*.bin"):
            if old != target:
                old.unlink()
    except OSError as error:
        log.warning("the compiled preprocessing is not kept: %s", error)

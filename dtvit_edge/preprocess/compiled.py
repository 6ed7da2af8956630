"""`preprocess.cu` as something that the driver loads: compiled once for a GPU, kept in the user's cache by digest."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dtvit_edge.cuda.driver import cuda_version
from dtvit_edge.errors import BuildError, MissingDependency
from dtvit_edge.preprocess.compilers import Compiler, find_compilers, how_to_install, sm_number
from dtvit_edge.preprocess.kernel import SOURCE

log = logging.getLogger(__name__)


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
        kept = sorted(folder.glob(f"{_name(sm)}-*.bin"))
        if kept:
            return kept[0].read_bytes()
        raise MissingDependency(
            f"the CUDA preprocessing must be compiled once for this GPU (SM {sm}), and neither nvcc nor NVRTC is "
            f"here: {how_to_install(cuda_version())}"
        )
    paths = [folder / f"{_name(sm)}-{_digest(compiler.identity.encode())}.bin" for compiler in asked]
    for path in paths:
        try:
            return path.read_bytes()
        except OSError:
            pass
    refusals = []
    for compiler, path in zip(asked, paths, strict=True):
        log.info("compiling the preprocessing for SM %s with %s", sm, compiler.identity)
        try:
            binary = compiler.compile(SOURCE, sm)
        except BuildError as error:
            log.warning("%s", error)
            refusals.append(str(error))
            continue
        _keep(path, binary)
        return binary
    raise BuildError(f"{'; and '.join(refusals)}. What helps: {how_to_install(cuda_version())}")


def user_cache() -> Path:
    """Where compiled kernels of this user lie (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtvit-edge"


def _name(sm: str) -> str:
    return f"preprocess-{_digest(SOURCE.read_bytes())}-sm{sm_number(sm)}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _keep(path: Path, binary: bytes) -> None:
    """Write it whole or not at all; a cache that cannot be written costs time alone, and is said."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(binary)
        os.replace(part, path)
    except OSError as error:
        log.warning("the compiled preprocessing is not kept: %s", error)

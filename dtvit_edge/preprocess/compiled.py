"""`preprocess.cu` as something that the driver loads: compiled once for a GPU, kept in the user's cache by digest.

nvcc makes machine code. Where there is only NVRTC, the compiler as a library, it makes PTX and the driver goes on.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from dtvit_edge.errors import BuildError, MissingDependency
from dtvit_edge.preprocess.kernel import SOURCE

INSTALL = (
    "on a Jetson `export PATH=/usr/local/cuda/bin:$PATH`; elsewhere the CUDA toolkit, or pip install nvidia-cuda-nvrtc"
)
_TOOLKITS = (Path("/usr/local/cuda/bin"), Path("/opt/cuda/bin"))
_NVRTC_NAMES = ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2")

log = logging.getLogger(__name__)


class Compiler(Protocol):
    """Something that compiles CUDA.

    Attributes:
        identity: its name, version and flags.
    """

    identity: str

    def compile(self, source: Path, sm: str) -> bytes:
        """What the driver's module loader takes, for a compute capability ("8.7").

        Raises:
            BuildError: it refuses the source or the GPU; in its own words.
        """
        ...


class Nvcc:
    """The toolkit's compiler, to machine code for one GPU."""

    FLAGS = ("-cubin", "-O3", "-std=c++17")

    def __init__(self, program: Path) -> None:
        self._program = program
        try:
            version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"{program} does not run: {error}") from error
        self.identity = " ".join([version.strip().splitlines()[-1], *self.FLAGS])

    def compile(self, source: Path, sm: str) -> bytes:
        """See `Compiler`."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "preprocess.cubin"
            command = [self._program, *self.FLAGS, f"-arch=sm_{_number(sm)}", "-o", target, source]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode != 0:
                raise BuildError(f"nvcc does not compile the preprocessing for SM {sm}: {_last_words(done.stderr)}")
            return target.read_bytes()


class Nvrtc:
    """NVIDIA's runtime compilation library (NVRTC), to PTX for a GPU and newer ones."""

    FLAGS = ("--std=c++17",)

    def __init__(self, library: Any) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.identity = " ".join([f"NVRTC {major.value}.{minor.value}", *self.FLAGS])

    def compile(self, source: Path, sm: str) -> bytes:
        """See `Compiler`."""
        library, program = self._library, ctypes.c_void_p()
        text = source.read_bytes()
        library.nvrtcCreateProgram(ctypes.byref(program), text, source.name.encode(), 0, None, None)
        try:
            flags = [flag.encode() for flag in (*self.FLAGS, f"--gpu-architecture=compute_{_number(sm)}")]
            status = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            if status != 0:
                said = self._text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode("utf-8", "replace")
                reason = _last_words(said) if said.strip("\0\n ") else f"status {status}"
                raise BuildError(f"NVRTC does not compile the preprocessing for SM {sm}: {reason}")
            return self._text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, ask_size: str, ask: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._library, ask_size)(program, ctypes.byref(size))
        memory = ctypes.create_string_buffer(size.value)
        getattr(self._library, ask)(program, memory)
        return memory.raw


def compiled(sm: str, *, cache: Path | None = None, compilers: Sequence[Compiler] | None = None) -> bytes:
    """The preprocessing's kernel for a GPU; compiled at the first call, read from the cache afterwards.

    Args:
        sm: compute capability, "8.7".
        cache: a folder; the user's own by default. A file is named by what made it.
        compilers: in order of preference; those of this machine by default.

    Raises:
        MissingDependency: nothing compiles here and the cache has nothing; with what to install.
        BuildError: the compiler refuses.
    """
    folder = cache or user_cache()
    candidates = find_compilers() if compilers is None else compilers
    if not candidates:
        kept = sorted(folder.glob(f"{_name(sm)}-*.bin"))
        if kept:
            return kept[0].read_bytes()
        raise MissingDependency(
            f"the CUDA preprocessing must be compiled once for this GPU (SM {sm}), and neither nvcc nor NVRTC is "
            f"here: {INSTALL}"
        )
    compiler = candidates[0]
    path = folder / f"{_name(sm)}-{_digest(compiler.identity.encode())}.bin"
    try:
        return path.read_bytes()
    except OSError:
        pass
    log.info("compiling the preprocessing for SM %s with %s", sm, compiler.identity)
    binary = compiler.compile(SOURCE, sm)
    _keep(path, binary)
    return binary


def find_compilers() -> list[Compiler]:
    """nvcc on the path or in its usual places, then NVRTC."""
    compilers: list[Compiler] = []
    program = shutil.which("nvcc") or next((str(f / "nvcc") for f in _TOOLKITS if (f / "nvcc").is_file()), None)
    if program:
        compilers.append(Nvcc(Path(program)))
    for name in (*_packaged_nvrtc(), *_NVRTC_NAMES):
        try:
            return [*compilers, Nvrtc(ctypes.CDLL(name))]
        except OSError:
            continue
    return compilers


def user_cache() -> Path:
    """Where compiled kernels of this user lie (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtvit-edge"


def _packaged_nvrtc() -> list[str]:
    """NVRTC from its Python package, which puts it below `nvidia/`."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else ()
    return [str(path) for folder in folders for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))]


def _name(sm: str) -> str:
    return f"preprocess-{_digest(SOURCE.read_bytes())}-sm{_number(sm)}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _number(sm: str) -> str:
    return sm.replace(".", "")


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


def _last_words(text: str) -> str:
    return " ".join(text.replace("\0", "").split())[-400:]

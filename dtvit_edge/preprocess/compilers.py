"""What compiles CUDA on this machine: nvcc, and NVRTC, NVIDIA's compiler as a library.

Both make machine code (a cubin) for the very GPU. A driver takes the machine code of every release of its own major
version and of older ones (CUDA Compatibility, "minor version compatibility"), but PTX only of releases up to its own;
so PTX is made only where an NVRTC is older than the GPU.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from dtvit_edge.cuda.driver import cuda_version
from dtvit_edge.errors import BuildError
from dtvit_edge.preprocess.kernel import source_files

_TOOLKITS = (Path("/usr/local/cuda"), Path("/opt/cuda"))
_NVRTC_NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")

CudaVersion = tuple[int, int]


class Compiler(Protocol):
    """Something that compiles CUDA.

    Attributes:
        identity: its name, version and flags.
    """

    identity: str

    def compile(self, source: Path, sm: str) -> bytes:
        """What the driver's module loader takes, for a compute capability ("8.7").

        Args:
            source: includes only what lies beside it, `kernel.source_files`.

        Raises:
            BuildError: it refuses the source or the GPU; in its own words.
        """
        ...


class Nvcc:
    """The toolkit's compiler.

    Attributes:
        cuda: the CUDA release that it belongs to.

    Raises:
        BuildError: it does not run, or says no version.
    """

    FLAGS = ("-cubin", "-O3", "-std=c++17")

    def __init__(self, program: Path) -> None:
        self._program = program
        try:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"{program} does not run: {error}") from error
        release = re.search(r"release (\d+)\.(\d+)", said)
        if release is None:
            raise BuildError(f"{program} does not say which CUDA release it belongs to: {_last_words(said)!r}")
        self.cuda: CudaVersion = (int(release[1]), int(release[2]))
        self.identity = " ".join([said.strip().splitlines()[-1], *self.FLAGS])

    def compile(self, source: Path, sm: str) -> bytes:
        """See `Compiler`."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "preprocess.cubin"
            command = [self._program, *self.FLAGS, f"-arch=sm_{sm_number(sm)}", "-o", target, source]
            try:
                done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            except OSError as error:
                raise BuildError(f"{self._program} does not run: {error}") from error
            if done.returncode != 0 or not target.is_file():
                reason = _last_words(done.stderr + done.stdout) or f"status {done.returncode}"
                raise BuildError(f"nvcc does not compile the preprocessing for SM {sm}: {reason}")
            return target.read_bytes()


class Nvrtc:
    """NVIDIA's runtime compilation library (NVRTC); 11.2 and newer.

    Args:
        driver: the highest CUDA release that the driver runs; None where there is no driver.

    Attributes:
        cuda: the CUDA release that it belongs to.

    Raises:
        BuildError: it answers with an error, or is too old.
    """

    FLAGS = ("--std=c++17",)

    def __init__(self, library: Any, driver: CudaVersion | None = None) -> None:
        self._library, self._driver = library, driver
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        try:
            self._check(library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
            self._check(library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
            numbers = (ctypes.c_int * count.value)()
            self._check(library.nvrtcGetSupportedArchs(numbers), "nvrtcGetSupportedArchs")
        except AttributeError as error:
            raise BuildError(f"NVRTC {major.value}.{minor.value} is too old: 11.2 or newer is needed") from error
        self.cuda: CudaVersion = (major.value, minor.value)
        self._architectures = tuple(numbers)
        self.identity = " ".join([f"NVRTC {major.value}.{minor.value}", *self.FLAGS, "--gpu-architecture"])

    def compile(self, source: Path, sm: str) -> bytes:
        """Machine code; PTX of the next older GPU where this NVRTC does not know the GPU and the driver takes its PTX.

        See `Compiler`.
        """
        number = int(sm_number(sm))
        older = [known for known in self._architectures if known < number]
        if number not in self._architectures and older and self._driver is not None and self.cuda <= self._driver:
            return self._compiled(source, sm, f"compute_{max(older)}", "nvrtcGetPTX")
        return self._compiled(source, sm, f"sm_{number}", "nvrtcGetCUBIN")

    def _compiled(self, source: Path, sm: str, architecture: str, result: str) -> bytes:
        library, program = self._library, ctypes.c_void_p()
        # NVRTC looks into no folder of its own accord: what the source includes is given by name.
        included = source_files(source)[1:]
        texts = (ctypes.c_char_p * len(included))(*(path.read_bytes() for path in included))
        names = (ctypes.c_char_p * len(included))(*(path.name.encode() for path in included))
        created = library.nvrtcCreateProgram(
            ctypes.byref(program), source.read_bytes(), source.name.encode(), len(included), texts, names
        )
        self._check(created, "nvrtcCreateProgram")
        try:
            flags = [flag.encode() for flag in (*self.FLAGS, f"--gpu-architecture={architecture}")]
            status = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            if status != 0:
                said = self._output(program, "nvrtcGetProgramLog").decode("utf-8", "replace")
                reason = _last_words(said) or f"status {status}"
                release = f"{self.cuda[0]}.{self.cuda[1]}"
                raise BuildError(f"NVRTC {release} does not compile the preprocessing for SM {sm}: {reason}")
            return self._output(program, result)
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _output(self, program: ctypes.c_void_p, name: str) -> bytes:
        """What NVRTC has of a program; each has a call that says its size."""
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"{name}Size")(program, ctypes.byref(size)), f"{name}Size")
        memory = ctypes.create_string_buffer(max(size.value, 1))
        self._check(getattr(self._library, name)(program, memory), name)
        if size.value == 0:
            raise BuildError(f"{self._title} answers {name} with nothing")
        return memory.raw

    @property
    def _title(self) -> str:
        return f"NVRTC {self.cuda[0]}.{self.cuda[1]}" if hasattr(self, "cuda") else "NVRTC"

    def _check(self, status: int, call: str) -> None:
        if status != 0:
            raise BuildError(f"{self._title} answers {status} to {call}")


class Unusable:
    """A compiler that is there and cannot be asked: its refusal is told with the others'."""

    def __init__(self, reason: str) -> None:
        self.identity = f"unusable: {reason}"
        self.cuda: CudaVersion = (0, 0)
        self._reason = reason

    def compile(self, source: Path, sm: str) -> bytes:
        """See `Compiler`."""
        raise BuildError(self._reason)


_Versioned = Nvcc | Nvrtc | Unusable


def find_compilers() -> list[Compiler]:
    """Every nvcc and NVRTC of this machine, those first whose machine code the driver is sure to take."""
    driver = cuda_version()
    return [*in_order([*_nvccs(), *_nvrtcs(driver)], driver)]


def in_order(compilers: Sequence[_Versioned], driver: CudaVersion | None) -> list[_Versioned]:
    """The driver's own major version, then older ones, then newer ones; in each nvcc, then the newest NVRTC.

    Without a driver the newest is first.
    """

    def place(compiler: _Versioned) -> tuple[int, bool, int, int]:
        major, minor = compiler.cuda
        distance = 0 if driver is None or major == driver[0] else 1 if major < driver[0] else 2
        return distance, not isinstance(compiler, Nvcc), -major, -minor

    return sorted(compilers, key=place)


def how_to_install(driver: CudaVersion | None) -> str:
    """What to install for a compiler whose machine code a driver takes."""
    major = driver[0] if driver else 0
    # nvidia-cuda-nvrtc-cu13 is an empty name on the registry: from 13 on the package has no suffix.
    package = {11: "nvidia-cuda-nvrtc-cu11", 12: "nvidia-cuda-nvrtc-cu12"}.get(major)
    if package is None:
        package = (
            f"'nvidia-cuda-nvrtc=={major}.*'" if major else "nvidia-cuda-nvrtc-cu12 (CUDA 12) or nvidia-cuda-nvrtc"
        )
    of = f" of CUDA {major}, as the driver" if major else ""
    return (
        f"on a Jetson `export PATH=/usr/local/cuda/bin:$PATH`; elsewhere the CUDA toolkit{of}, or pip install {package}"
    )


def sm_number(sm: str) -> str:
    """Compute capability "8.7" as compilers write it, "87"."""
    return sm.replace(".", "")


def _nvccs() -> Iterator[Nvcc | Unusable]:
    on_path = shutil.which("nvcc")
    programs = [Path(on_path)] if on_path else []
    programs += [folder / "bin" / "nvcc" for folder in _TOOLKITS if (folder / "bin" / "nvcc").is_file()]
    known: set[Path] = set()
    for program in programs:
        if program.resolve() in known:
            continue
        known.add(program.resolve())
        try:
            yield Nvcc(program)
        except BuildError as error:
            yield Unusable(str(error))


def _nvrtcs(driver: CudaVersion | None) -> Iterator[Nvrtc | Unusable]:
    known: set[CudaVersion] = set()
    for name in (*_packaged_nvrtc(), *_NVRTC_NAMES):
        try:
            nvrtc = Nvrtc(_loaded(name), driver)
        except OSError:
            continue
        except BuildError as error:
            yield Unusable(str(error))
            continue
        if nvrtc.cuda not in known:
            known.add(nvrtc.cuda)
            yield nvrtc


def _packaged_nvrtc() -> list[str]:
    """NVRTC from its Python packages, which put it below `nvidia/`, and from toolkits that the linker does not know."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else ()
    packages = [path for folder in folders for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))]
    return [
        str(path) for path in packages + [path for folder in _TOOLKITS for path in folder.glob("lib64/libnvrtc.so")]
    ]


def _loaded(name: str) -> Any:
    """The library; NVRTC 13 does not find its builtins beside itself (status 7): they are loaded first."""
    for builtins in sorted(Path(name).parent.glob("libnvrtc-builtins.so.*")) if "/" in name else ():
        ctypes.CDLL(str(builtins))
    return ctypes.CDLL(name)


def _last_words(text: str) -> str:
    return " ".join(text.replace("\0", "").split())[-400:]

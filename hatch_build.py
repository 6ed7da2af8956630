"""Compiles `native.c`, the CPU path's library: for this checkout or a platform wheel, never at installation or use.

    python hatch_build.py                    # this machine's compiler ($CC, cc), into this checkout; `make` calls it
    DTVIT_WHEEL=aarch64 hatchling build      # zig, into a wheel of that platform; `make dist` calls it

Without `DTVIT_WHEEL` a wheel is pure, for every platform, and prepares slices with OpenCV. Zig (PyPI's `ziglang`) is
clang with the libraries of every platform in one package: without a system's cross compilers it builds for all of
`PLATFORMS`, on any machine the same bytes, and links against the symbols of an old glibc, which a wheel's tag promises.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "dtvit_edge" / "preprocess" / "native.c"
LIBRARY = SOURCE.with_name("libdtvit_native.so")
# -fwrapv: sums wrap as NumPy's.
FLAGS = ("-std=c11", "-O3", "-fPIC", "-fwrapv", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi")
AVX2 = (
    "-mavx2",
    "-mbmi",
    "-mpopcnt",
    "-DDTVIT_AVX2_ALONE",
)  # an object more, of x86-64; the library asks the processor
# glibc 2.17 is what manylinux2014 promises (PEP 599).
PLATFORMS = {name: f"{name}-linux-gnu.2.17" for name in ("x86_64", "aarch64")}
TAG = "py3-none-manylinux_2_17_{0}.manylinux2014_{0}"
CHOICE = "DTVIT_WHEEL"


def compile_library(compiler: list[str], machine: str, target: Path) -> None:
    """The library for a machine (`x86_64`, `aarch64`, another), whole or not at all.

    Behind it stands its sha256: a loader maps a truncated library, and the process dies of it.

    Raises:
        subprocess.CalledProcessError: the compiler refuses.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    define = f'-DDTVIT_SOURCE_DIGEST="{digest}"'
    both = machine in ("x86_64", "AMD64")
    variants: list[tuple[str, ...]] = [("-DDTVIT_WITH_AVX2",), AVX2] if both else [()]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".native-") as folder:
        objects = [str(Path(folder, f"{i}.o")) for i in range(len(variants))]
        for flags, name in zip(variants, objects, strict=True):
            subprocess.run([*compiler, *FLAGS, *flags, define, "-c", str(SOURCE), "-o", name], check=True)
        built = Path(folder, "library")
        subprocess.run([*compiler, "-shared", "-s", *objects, "-o", str(built)], check=True)
        data = built.read_bytes()
        with open(built, "ab") as file:  # a loader passes over what follows its sections
            file.write(hashlib.sha256(data).hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())  # else a power failure could leave a file of the right name and zeros
        os.replace(built, target)


def get_build_hook() -> type:
    """Hatchling's hook, which is loaded where hatchling is."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class PlatformWheel(BuildHookInterface):  # type: ignore[type-arg]
        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            machine = os.environ.get(CHOICE)
            if not machine or version == "editable":
                return
            if machine not in PLATFORMS:
                raise ValueError(f"{CHOICE} is {machine!r}, expected one of {', '.join(PLATFORMS)}")
            if importlib.util.find_spec("ziglang") is None:
                raise ModuleNotFoundError("a wheel of a platform is compiled by zig: pip install ziglang")
            self._folder = tempfile.TemporaryDirectory()
            library = Path(self._folder.name, LIBRARY.name)
            compile_library([sys.executable, "-m", "ziglang", "cc", "-target", PLATFORMS[machine]], machine, library)
            build_data["force_include"][str(library)] = LIBRARY.relative_to(ROOT).as_posix()
            build_data["tag"], build_data["pure_python"] = TAG.format(machine), False

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            if hasattr(self, "_folder"):
                self._folder.cleanup()

    return PlatformWheel


def main() -> None:
    """Compile for this checkout; without a compiler say so, and leave no library that another source made."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        LIBRARY.unlink(missing_ok=True)
        print("no C compiler here (cc): this checkout prepares slices with OpenCV")
        return
    compile_library(compiler.split(), platform.machine(), LIBRARY)


if __name__ == "__main__":
    main()

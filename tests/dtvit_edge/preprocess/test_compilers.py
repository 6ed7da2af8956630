"""nvcc and NVRTC: machine code for the very GPU, what each says where it refuses, and which is asked first."""

from __future__ import annotations

import ctypes
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.errors import BuildError
from dtvit_edge.preprocess import compilers as module
from dtvit_edge.preprocess.compilers import Nvcc, Nvrtc, Unusable, find_compilers, how_to_install, in_order
from dtvit_edge.preprocess.kernel import SOURCE

CUBIN, PTX = b"\x7fELF machine code", b".version 8.0 .entry preprocess(\0"
ELF_MACHINE_CUDA = 190


class StandIn:
    """NVRTC's C interface as far as it is used; `fails` names the calls that answer 7 (NVRTC_ERROR_INTERNAL)."""

    def __init__(
        self, version: tuple[int, int], architectures: tuple[int, ...] = (75, 80, 90), fails: str = ""
    ) -> None:
        self.version, self.architectures, self.fails = version, architectures, fails
        self.flags: list[bytes] = []
        self.destroyed = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvrtc"):
            raise AttributeError(name)
        call = getattr(self, f"_{name[5:]}")
        return lambda *arguments: 7 if name == self.fails else call(*arguments) or 0

    def _Version(self, major: Any, minor: Any) -> None:
        major._obj.value, minor._obj.value = self.version

    def _GetNumSupportedArchs(self, count: Any) -> None:
        count._obj.value = len(self.architectures)

    def _GetSupportedArchs(self, numbers: Any) -> None:
        numbers[:] = self.architectures

    def _CreateProgram(self, *arguments: Any) -> None:
        assert b"preprocess" in arguments[1]
        self.included = dict(zip(arguments[5], arguments[4], strict=True))
        assert len(self.included) == arguments[3]

    def _CompileProgram(self, program: Any, count: int, flags: Any) -> int:
        self.flags = list(flags)
        wanted = self.flags[-1].rpartition(b"_")[2]
        return 0 if int(wanted) in self.architectures else 5

    def _DestroyProgram(self, program: Any) -> None:
        self.destroyed += 1

    def _size(self, data: bytes, size: Any) -> None:
        size._obj.value = len(data)

    def _GetCUBINSize(self, program: Any, size: Any) -> None:
        self._size(CUBIN, size)

    def _GetCUBIN(self, program: Any, memory: Any) -> None:
        ctypes.memmove(memory, CUBIN, len(CUBIN))

    def _GetPTXSize(self, program: Any, size: Any) -> None:
        self._size(PTX, size)

    def _GetPTX(self, program: Any, memory: Any) -> None:
        ctypes.memmove(memory, PTX, len(PTX))

    def _GetProgramLogSize(self, program: Any, size: Any) -> None:
        size._obj.value = 16

    def _GetProgramLog(self, program: Any, memory: Any) -> None:
        ctypes.memmove(memory, b"invalid value -\0", 16)


def test_nvrtc_makes_machine_code_for_the_very_gpu() -> None:
    library = StandIn((12, 6))
    assert Nvrtc(library, (12, 6)).compile(SOURCE, "9.0") == CUBIN
    assert library.flags[-1] == b"--gpu-architecture=sm_90" and library.destroyed == 1
    assert set(library.included) == set(re.findall(rb'#include "(\w+\.cuh)"', SOURCE.read_bytes()))
    assert b"root_of" in library.included[b"labels.cuh"]


def test_ptx_is_made_only_for_a_newer_gpu_and_only_where_the_driver_takes_it() -> None:
    library = StandIn((12, 6))
    assert Nvrtc(library, (12, 8)).compile(SOURCE, "12.0") == PTX
    assert library.flags[-1] == b"--gpu-architecture=compute_90"
    for driver in ((12, 4), (11, 4), None):
        with pytest.raises(
            BuildError, match=r"NVRTC 12\.6 does not compile the preprocessing for SM 12\.0: invalid value"
        ):
            Nvrtc(library, driver).compile(SOURCE, "12.0")


@pytest.mark.parametrize("call", ["nvrtcCreateProgram", "nvrtcGetCUBINSize", "nvrtcGetCUBIN"])
def test_a_call_of_nvrtc_that_fails_is_told_by_name(call: str) -> None:
    with pytest.raises(BuildError, match=f"NVRTC 12\\.6 answers 7 to {call}"):
        Nvrtc(StandIn((12, 6), fails=call)).compile(SOURCE, "9.0")


def test_an_nvrtc_that_fails_or_is_too_old_is_a_refusal_and_no_crash() -> None:
    with pytest.raises(BuildError, match="NVRTC answers 7 to nvrtcVersion"):
        Nvrtc(StandIn((12, 6), fails="nvrtcVersion"))
    old = StandIn((10, 2))
    with pytest.raises(BuildError, match=r"NVRTC 10\.2 is too old: 11\.2"):
        Nvrtc(type("Old", (), {"nvrtcVersion": staticmethod(old.nvrtcVersion)})())


def test_the_drivers_own_major_version_comes_first_and_newer_ones_last() -> None:
    newer, same, older = (Nvrtc(StandIn(v)) for v in ((13, 0), (12, 6), (11, 8)))
    same_newer = Nvrtc(StandIn((12, 9)))
    assert in_order([newer, older, same, same_newer], (12, 6)) == [same_newer, same, older, newer]
    assert in_order([older, same, newer], None) == [newer, same, older]
    assert in_order([Unusable("no"), newer], (13, 0))[0] is newer


def test_the_package_to_install_is_that_of_the_drivers_major_version() -> None:
    assert how_to_install((11, 4)).endswith("pip install nvidia-cuda-nvrtc-cu11")
    assert how_to_install((12, 6)).endswith("pip install nvidia-cuda-nvrtc-cu12")
    assert how_to_install((13, 2)).endswith("pip install 'nvidia-cuda-nvrtc==13.*'")
    assert "cu13" not in how_to_install(None)


def test_an_nvcc_that_does_not_run_is_told_and_the_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 3\n")
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "_TOOLKITS", ())
    monkeypatch.setattr(module, "_packaged_nvrtc", lambda: ["a", "b"])
    monkeypatch.setattr(module, "_NVRTC_NAMES", ())
    monkeypatch.setattr(module, "_loaded", lambda name: StandIn((12, 6) if name == "a" else (13, 0)))
    monkeypatch.setattr(module, "cuda_version", lambda: (13, 0))
    found = find_compilers()
    assert [type(c) for c in found] == [Nvrtc, Nvrtc, Unusable]
    assert [c.identity.split()[1] for c in found[:2]] == ["13.0", "12.6"]
    with pytest.raises(BuildError, match="does not run"):
        found[2].compile(SOURCE, "9.0")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_nvcc_makes_machine_code(tmp_path: Path) -> None:
    nvcc = next(c for c in find_compilers() if isinstance(c, Nvcc))
    assert nvcc.compile(SOURCE, "8.7").startswith(b"\x7fELF")
    with pytest.raises(BuildError, match=r"nvcc does not compile the preprocessing for SM 1\.0: .*sm_10"):
        nvcc.compile(SOURCE, "1.0")
    broken = tmp_path / "preprocess.cu"
    broken.write_text("this is not CUDA")
    with pytest.raises(BuildError, match="error"):
        nvcc.compile(broken, "8.7")


def test_the_real_nvrtc_makes_machine_code(tmp_path: Path) -> None:
    found = [c for c in find_compilers() if isinstance(c, Nvrtc)]
    if not found:
        pytest.skip(f"no NVRTC here ({how_to_install(None)})")
    binary = found[0].compile(SOURCE, "8.7")
    assert binary.startswith(b"\x7fELF") and int.from_bytes(binary[18:20], "little") == ELF_MACHINE_CUDA
    broken = tmp_path / "preprocess.cu"
    broken.write_text("this is not CUDA")
    with pytest.raises(BuildError, match="does not compile"):
        found[0].compile(broken, "8.7")

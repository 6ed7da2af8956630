"""Compiling the kernel once: which compiler, what is kept, what is said where there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dtvit_edge.errors import BuildError, MissingDependency
from dtvit_edge.preprocess import compiled as module
from dtvit_edge.preprocess.compiled import Nvcc, Nvrtc, compiled, find_compilers

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")


class Scripted:
    def __init__(self, identity: str = "a compiler 1.0") -> None:
        self.identity = identity
        self.calls: list[str] = []

    def compile(self, source: Path, sm: str) -> bytes:
        assert source.name == "preprocess.cu"
        self.calls.append(sm)
        return f"{self.identity} for {sm}".encode()


def test_it_compiles_once_for_each_gpu_compiler_and_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Scripted()
    for _ in range(3):
        assert compiled("8.7", cache=tmp_path, compilers=[compiler]) == b"a compiler 1.0 for 8.7"
    assert compiler.calls == ["8.7"]
    compiled("9.0", cache=tmp_path, compilers=[compiler])
    assert compiled("8.7", cache=tmp_path, compilers=[Scripted("another 2.0")]) == b"another 2.0 for 8.7"
    changed = tmp_path / "preprocess.cu"
    changed.write_bytes(module.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(module, "SOURCE", changed)
    compiled("8.7", cache=tmp_path, compilers=[compiler])
    assert compiler.calls == ["8.7", "9.0", "8.7"]
    assert len(list(tmp_path.glob("*.bin"))) == 4 and not list(tmp_path.glob("*.part"))


def test_without_a_compiler_a_kept_kernel_serves_and_else_it_is_said_what_to_install(tmp_path: Path) -> None:
    compiled("8.7", cache=tmp_path, compilers=[Scripted()])
    assert compiled("8.7", cache=tmp_path, compilers=[]) == b"a compiler 1.0 for 8.7"
    with pytest.raises(MissingDependency, match=r"SM 8\.6.*neither nvcc nor NVRTC.*export PATH=/usr/local/cuda/bin"):
        compiled("8.6", cache=tmp_path, compilers=[])


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert compiled("8.7", cache=tmp_path / "file", compilers=[Scripted()]) == b"a compiler 1.0 for 8.7"
    assert "not kept" in caplog.text


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.user_cache() == tmp_path / "dtvit-edge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module.user_cache() == Path.home() / ".cache" / "dtvit-edge"


@needs_nvcc
def test_nvcc_makes_machine_code(tmp_path: Path) -> None:
    nvcc = next(c for c in find_compilers() if isinstance(c, Nvcc))
    assert nvcc.compile(module.SOURCE, "8.7").startswith(b"\x7fELF")
    with pytest.raises(BuildError, match=r"nvcc does not compile the preprocessing for SM 1\.0: .*sm_10"):
        nvcc.compile(module.SOURCE, "1.0")
    broken = tmp_path / "preprocess.cu"
    broken.write_text("this is not CUDA")
    with pytest.raises(BuildError, match="error"):
        nvcc.compile(broken, "8.7")


def test_nvrtc_makes_ptx(tmp_path: Path) -> None:
    nvrtc = [c for c in find_compilers() if isinstance(c, Nvrtc)]
    if not nvrtc:
        pytest.skip("no NVRTC here (pip install nvidia-cuda-nvrtc)")
    ptx = nvrtc[0].compile(module.SOURCE, "8.7")
    assert b".entry preprocess(" in ptx and ptx.endswith(b"\0")
    broken = tmp_path / "preprocess.cu"
    broken.write_text("this is not CUDA")
    with pytest.raises(BuildError, match="NVRTC does not compile"):
        nvrtc[0].compile(broken, "8.7")

"""Compiling the kernel once: which compiler, what is kept, what is said where there is none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dtvit_edge.errors import BuildError, MissingDependency
from dtvit_edge.preprocess import compiled as module
from dtvit_edge.preprocess.compiled import compiled


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
    (tmp_path / "labels.cuh").write_text("")
    for _ in range(2):
        compiled("8.7", cache=tmp_path, compilers=[compiler])
    assert compiler.calls == ["8.7", "9.0", "8.7", "8.7"], "what it includes is part of it"
    assert len(list(tmp_path.glob("*.bin"))) == 5 and not list(tmp_path.glob("*.part"))


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


class Refusing(Scripted):
    def compile(self, source: Path, sm: str) -> bytes:
        super().compile(source, sm)
        raise BuildError(f"{self.identity} knows no SM {sm}")


def test_where_a_compiler_refuses_the_next_is_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Refusing("nvcc"), Scripted("NVRTC")
    for _ in range(2):
        assert compiled("12.0", cache=tmp_path, compilers=[first, second]) == b"NVRTC for 12.0"
    assert first.calls == second.calls == ["12.0"]  # what the second made serves from then on
    assert "nvcc knows no SM 12.0" in caplog.text


def test_where_all_refuse_the_error_has_the_words_of_each(tmp_path: Path) -> None:
    words = r"nvcc knows no SM 12\.0; and NVRTC knows no SM 12\.0\. What helps: .*pip install"
    with pytest.raises(BuildError, match=words):
        compiled("12.0", cache=tmp_path, compilers=[Refusing("nvcc"), Refusing("NVRTC")])


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX system's")
@pytest.mark.parametrize("damage", ["empty", "other bytes", "writable", "fifo", "link"])
def test_a_kept_kernel_that_is_not_what_was_kept_is_compiled_anew(tmp_path: Path, damage: str) -> None:
    cache, compiler = tmp_path / "cache", Scripted()
    compiled("8.7", cache=cache, compilers=[compiler])
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (kept,) = cache.glob("*.bin")
    if damage in ("empty", "other bytes"):
        kept.write_bytes(b"" if damage == "empty" else b"another program")
    elif damage == "writable":
        kept.chmod(0o666)
    else:
        kept.rename(tmp_path / "elsewhere")
        os.mkfifo(kept) if damage == "fifo" else kept.symlink_to(tmp_path / "elsewhere")
    assert compiled("8.7", cache=cache, compilers=[compiler]) == b"a compiler 1.0 for 8.7"
    assert compiler.calls == ["8.7", "8.7"]
    assert compiled("8.7", cache=cache, compilers=[]) == b"a compiler 1.0 for 8.7", "it was kept again"


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX system's")
def test_a_cache_that_others_could_write_becomes_its_users_alone(tmp_path: Path) -> None:
    compiled("8.7", cache=tmp_path / "cache", compilers=[Scripted()])
    (tmp_path / "cache").chmod(0o777)
    assert compiled("8.7", cache=tmp_path / "cache", compilers=[]) == b"a compiler 1.0 for 8.7"
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_cache_or_a_kernel_of_another_user_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, compiler = tmp_path / "cache", Scripted()
    compiled("8.7", cache=cache, compilers=[compiler])
    (kept,) = cache.glob("*.bin")
    os.chown(kept, 12345, -1)
    compiled("8.7", cache=cache, compilers=[compiler])
    assert compiler.calls == ["8.7", "8.7"]
    os.chown(cache, 12345, -1)
    compiled("8.7", cache=cache, compilers=[compiler])
    assert compiler.calls == ["8.7", "8.7", "8.7"]
    assert "belongs to another user" in caplog.text

"""Children that die for real."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dtvit_edge.errors import BuildError, BuildKilled
from dtvit_edge.trt import process

GOOD = "__version__ = '10.3.0'\n"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of a module `tensorrt` that a child imports."""
    (tmp_path / "lib").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "lib")
    return tmp_path / "lib" / "tensorrt.py"


def probe(tmp_path: Path) -> dict[str, object]:
    return process.run("probe", "tensorrt", {"find_gpu": True}, tmp_path)


def test_a_child_answers(library: Path, tmp_path: Path) -> None:
    library.write_text(GOOD)
    assert probe(tmp_path)["version"] == "10.3.0"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os, signal; print('at 97 %', flush=True); os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL.*memory"),
        ("import os; os.abort()", r"crashed \(SIGABRT\)"),
        ("import os; os._exit(3)", "ended with status 3 and no result"),
        ("import os; os._exit(0)", "ended with status 0 and no result"),
    ],
    ids=["killed", "aborted", "exited", "left"],
)
def test_a_child_that_dies_is_an_error_in_words(library: Path, tmp_path: Path, source: str, message: str) -> None:
    library.write_text(source)
    with pytest.raises(BuildKilled, match=message) as error:
        probe(tmp_path)
    assert error.value.exit_status == 5
    assert ("at 97 %" in str(error.value)) == ("97" in source)


def test_a_childs_own_errors_keep_their_type_and_others_are_told_with_their_trace(
    library: Path, tmp_path: Path
) -> None:
    library.write_text("__version__ = '7.2'\n")
    with pytest.raises(BuildError, match="too old"):
        probe(tmp_path)
    library.write_text("raise RuntimeError('no such thing')")
    with pytest.raises(BuildError, match="RuntimeError: no such thing") as error:
        probe(tmp_path)
    assert "tensorrt.py" in str(error.value)


def test_an_interrupted_build_leaves_no_process(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.write_text("import time; time.sleep(60)")
    started: list[int] = []

    def interrupted(child: object, task: str) -> int:
        started.append(child.pid)  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        probe(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_file_of_the_working_directory_is_never_taken_for_a_module(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.write_text(GOOD)
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "tensorrt.py").write_text("__version__ = '6.6.6'\n")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("sys.path", [p for p in sys.path if p not in ("", ".")])
    assert probe(tmp_path)["version"] == "10.3.0"

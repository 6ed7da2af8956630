"""A run's output folder: disks that fail under it, other processes, signals, and what outsiders may read."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib._bootstrap import _find_and_load  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.__main__ import interrupt_on_signals
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.scoring import opening
from dtvit_edge.scoring.api import open_backend
from dtvit_edge.scoring.lock import FolderLock
from dtvit_edge.scoring.result_files import is_finished
from tests.support.permissions import forbid
from tests.support.scoring_runs import results, score
from tests.support.wrapped_backend import WrappedBackend

AFTER = 3  # batches


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of the command line, for one test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    # As in a terminal: a shell that starts tests in the background lets them ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_an_interrupt_amid_pythons_locks_of_imports_comes_a_moment_later(number: int, signals: None) -> None:
    """One that leaves the lock of all imports held would let the thread that opens the model wait for ever."""
    handler: Any = signal.getsignal(number)
    amid = compile("handler(number, sys._getframe())", _find_and_load.__code__.co_filename, "exec")
    exec(amid, {"handler": handler, "number": number, "sys": sys})  # it returns
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)


def meanwhile(event: Callable[[], Any]) -> Callable[..., Any]:
    """Opens real backends that let something happen before a batch."""

    class Backend(WrappedBackend):
        left = AFTER

        def infer(self, pixels: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                event()
            return super().infer(pixels)

    return lambda *arguments: Backend(open_backend(*arguments))


def failing(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, a function of `os` fails on everything but what lies in memory alone."""
    works = getattr(os, name)

    def fail(descriptor: int, *arguments: Any) -> Any:
        place = Path(f"/proc/self/fd/{descriptor}")
        if place.is_symlink() and os.readlink(place).startswith("/memfd:"):
            return works(descriptor, *arguments)
        raise OSError(number, os.strerror(number))

    return lambda: monkeypatch.setattr(os, name, fail)


NUMBERS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT]


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_disk_that_fails_before_the_first_file_is_a_refusal(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing("write", number, monkeypatch)()
    with pytest.raises(ConfigError, match=f"out cannot be written: {os.strerror(number)}") as caught:
        score(tiny_bundle, phantom_folder, tmp_path / "out")
    assert caught.value.exit_status == 2
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["write", "fsync"])
def test_a_disk_that_fails_later_ends_the_run_and_the_same_command_goes_on(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch, name: str, number: int,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", meanwhile(failing(name, number, patched)))
        with pytest.raises(DiskFault, match=f"the disk failed at journal.jsonl: {os.strerror(number)}") as caught:
            score(tiny_bundle, phantom_folder, out)
    assert caught.value.exit_status == 5
    assert not is_finished(out)
    assert score(tiny_bundle, phantom_folder, out).resumed >= 4 * (AFTER - 1)
    assert results(out) == reference


def test_results_that_cannot_be_written_are_written_by_the_same_command(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        failing("replace", errno.ENOSPC, patched)()
        with pytest.raises(DiskFault, match=r"at slices.csv: No space left"):
            score(tiny_bundle, phantom_folder, tmp_path / "out")
    assert not is_finished(tmp_path / "out")
    score(tiny_bundle, phantom_folder, tmp_path / "out")
    assert results(tmp_path / "out") == reference


def test_a_folder_that_is_deleted_under_a_run_ends_it(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", meanwhile(lambda: shutil.rmtree(out)))
        with pytest.raises(DiskFault, match=r"journal.jsonl was removed, or its folder, while"):
            score(tiny_bundle, phantom_folder, out)
    score(tiny_bundle, phantom_folder, out)
    assert results(out) == reference


def test_a_folder_without_permission_is_a_refusal(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    forbid(tmp_path / "out", monkeypatch)
    with pytest.raises(ConfigError, match="out cannot be written: Permission denied"):
        score(tiny_bundle, phantom_folder, tmp_path / "out")


@pytest.mark.parametrize("overwrite", [False, True], ids=["continue", "overwrite"])
def test_a_run_into_a_folder_that_is_held_changes_nothing_in_it(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, overwrite: bool
) -> None:
    out = tmp_path / "out"
    score(tiny_bundle, phantom_folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with FolderLock(out), pytest.raises(ConfigError, match=f"is writing this run: process {os.getpid()} on "):
        score(tiny_bundle, phantom_folder, out, keep_all=True, overwrite=overwrite)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_killed_runs_left_is_cleared_away(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").write_text("{}")
    score(tiny_bundle, phantom_folder, out)
    (out / ".slices.csv.0a1b2c3d.part").write_text("study_uid,")
    score(tiny_bundle, phantom_folder, out)
    assert sorted(os.listdir(out)) == ["journal.jsonl", "run.json", "series.csv", "slices.csv", "studies.csv"]
    assert results(out) == reference


def test_outputs_are_for_the_owners_group_at_most(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        score(tiny_bundle, phantom_folder, tmp_path / "new" / "out")
    finally:
        os.umask(before)
    for path in (tmp_path / "new").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path.name
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o750


def test_a_damaged_journal_gives_the_same_bytes_and_one_warning(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    score(tiny_bundle, phantom_folder, out)
    whole = (out / "journal.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    (out / "journal.jsonl").write_bytes(whole[:first] + whole[first:].replace(b'"ich":true', b'"ich":null'))
    caplog.clear()
    report = score(tiny_bundle, phantom_folder, out)
    assert results(out) == reference
    assert 0 < report.resumed < sum(study.slices for study in report.studies)
    assert len([record for record in caplog.records if "do not verify" in record.getMessage()]) == 1


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_as_an_interrupt_does(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals,
) -> None:  # fmt: skip
    def twice() -> None:
        for _ in range(2):  # a terminal that is closed sends it twice
            os.kill(os.getpid(), number)

    out = tmp_path / "out"
    command = ["-q", "score", str(tiny_bundle.path), str(phantom_folder), "-o", str(out)]
    command += ["--backend", "onnxruntime", "--batch", "4", "--threads", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", meanwhile(twice))
        assert main(command) == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command continues where it stopped\n"
    assert not is_finished(out)
    assert score(tiny_bundle, phantom_folder, out).resumed == 4 * (AFTER - 1)
    assert results(out) == reference

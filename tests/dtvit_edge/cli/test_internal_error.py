"""What is said, and what is not, when a command meets an error that nobody foresaw."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import cli, main
from dtvit_edge.cli.internal_error import _words
from dtvit_edge.scoring import run
from tests.support.data import ROOT
from tests.support.dicom_files import series

PATIENT = "Smith^John 12345678"


@pytest.fixture
def arguments(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line full of names, and a temporary folder of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    series(tmp_path / PATIENT, [0])
    bundle = Path(tiny_bundle.path)
    return ["score", str(bundle), str(tmp_path / PATIENT), "-o", str(tmp_path / "out"), "--backend", "onnxruntime",
            "--batch=4"]  # fmt: skip


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(run, "run", fail)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ZeroDivisionError(f"in {PATIENT}"), "ZeroDivisionError"),
        (OSError(errno.ENOENT, "No such file", f"/data/{PATIENT}"), "FileNotFoundError (No such file)"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "BrokenPipeError (Broken pipe)"),
        (EOFError(f"{PATIENT} ended"), "EOFError"),
        (ModuleNotFoundError("no such module", name="absent"), "ModuleNotFoundError"),
    ],
    ids=["ours", "a file that is gone", "a pipe that is not stdout", "end of file", "a runtime module"],
)
def test_status_6_says_what_to_report_and_nothing_of_a_patient(
    error: Exception,
    named: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(error, monkeypatch)
    assert main(arguments) == 6
    said = capsys.readouterr()
    assert "Smith" not in said.err and "12345678" not in said.err and "Traceback" not in said.err
    assert f"error     {named}, dtvit_edge/cli/commands.py line " in said.err
    assert "command   dtvit-edge score ... ... -o ... --backend onnxruntime --batch=4\n" in said.err
    assert re.search(r"versions  dtvit-edge \S+, numpy \d", said.err)
    (file,) = (tmp_path / "temporary").iterdir()
    assert f"The traceback is in {file}." in said.err
    assert file.stat().st_mode & 0o077 == 0
    assert "Traceback (most recent call last)" in file.read_text()
    assert type(error).__name__ in file.read_text()


@pytest.mark.parametrize(
    ("number", "words", "status"),
    [
        (errno.ENOSPC, "the disk failed: No space left on device", 5),
        (errno.EIO, "the disk failed: Input/output error", 5),
        (errno.EACCES, "a file or folder cannot be used: Permission denied (the last part of its path: 'x')", 2),
        (errno.ENOTDIR, "a file or folder cannot be used: Not a directory (the last part of its path: 'x')", 2),
    ],
)
def test_what_the_disk_or_a_path_is_to_blame_for_is_no_internal_error(
    number: int, words: str, status: int, arguments: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fail_with(OSError(number, os.strerror(number), f"/data/{PATIENT}/x"), monkeypatch)
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert said.endswith(f"error: {words}\n") and "Smith" not in said


def test_verbose_has_the_traceback_on_stderr_and_no_file(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(ZeroDivisionError("x"), monkeypatch)
    assert main([*arguments, "-v"]) == 6
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert not list((tmp_path / "temporary").iterdir())


def test_where_no_file_can_be_written_the_traceback_is_on_stderr(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(ZeroDivisionError("x"), monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert main(arguments) == 6
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("-v score b.dtvit smith -o/data/smith --keep-all", "-v score ... ... -o... --keep-all"),
        ("score b.dtvit 12345678 --batch 8 --backend smith", "score ... ... --batch 8 --backend ..."),
        ("score verify inspect --batch smith", "score ... ... --batch ..."),
        ("compat b.dtvit --target jetpack6 --expect-digest abc", "compat ... --target jetpack6 --expect-digest ..."),
        ("score b.dtvit --unknown=smith --reader=pydicom -", "score ... --unknown=... --reader=pydicom ..."),
    ],
)
def test_only_the_programs_own_words_and_numbers_are_shown(line: str, shown: str) -> None:
    assert " ".join(_words(line.split(), cli)) == shown


@pytest.mark.parametrize("name", ["bench"])
def test_options_of_a_default_command_are_known(name: str) -> None:
    line = [name, "demo.dtvit", "--threads", "2", "--slices", "smith.csv", "--quick"]
    assert " ".join(_words(line, cli)) == "bench ... --threads 2 --slices ... --quick"


@pytest.mark.parametrize(
    ("line", "stream"),
    [
        ("--help", "stdout"),
        ("score --help", "stdout"),
        ("doctor", "stdout"),
        ("doctor --json", "stdout"),
        ("frobnicate", "stderr"),
        ("inspect absent", "stderr"),
    ],
)
def test_a_reader_that_has_gone_ends_a_command_quietly(line: str, stream: str) -> None:
    read, write = os.pipe()
    os.close(read)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: write}
    done = subprocess.run([sys.executable, "-m", "dtvit_edge", *line.split()], cwd=ROOT, check=False, **streams)
    os.close(write)
    assert done.returncode == 141
    assert not done.stdout and not done.stderr

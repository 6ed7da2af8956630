"""Where a record goes is known to be writable before anything is measured."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from benchmarks.command import run as bench
from calibration.command import calibrate
from evaluation.repeating import RecordFile, command_line
from training.ablation import main as ablation
from training.command import evaluate
from training.experiments import main as experiments


@click.command()
@click.option("--record", cls=RecordFile)
def measure(record: Path | None) -> None:
    """Say the line."""
    click.echo(f"measured: {command_line(click.get_current_context(), 'measure')}")


def run(path: Path) -> Result:
    return CliRunner().invoke(measure, ["--record", str(path)])


def test_a_file_that_is_not_there_yet_may_be_named_and_is_not_made(tmp_path: Path) -> None:
    assert run(tmp_path / "new" / "records.jsonl").output == "measured: measure\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "place", ["file/records.jsonl", "file/deeper/records.jsonl", "folder", "link", "pipe", "/dev/full", "long" * 75]
)
def test_a_place_where_no_record_could_be_written_is_refused_before_measuring(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    result = run(tmp_path / place)
    assert result.exit_code == 2 and "measured" not in result.output and "--record" in result.output


@pytest.mark.parametrize("name", ["file", "new"])
def test_so_is_one_that_its_rights_close(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / name).exit_code == 0
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write everywhere
    assert run(tmp_path / name).exit_code == 2


def test_every_command_that_appends_a_record_asks_so() -> None:
    commands: list[click.Command] = [calibrate, evaluate, experiments, ablation, bench]
    assert all(any(isinstance(option, RecordFile) for option in command.params) for command in commands)

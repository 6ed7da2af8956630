"""What all programs of the room keep: they refuse where there is nothing to measure, and say what repeats them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks import standalone
from benchmarks.standalone import evidence_maps, leak, startup
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from evaluation.records import read
from evaluation.repeating import RecordFile, command_line
from tests.support.data import ROOT
from tests.support.tiny_bundle import write_tiny_bundle

SOURCES = {path.stem: path.read_text() for path in sorted(Path(str(standalone.__file__)).parent.glob("*.py"))}
TAKING_STUDIES = [name for name, source in SOURCES.items() if 'click.argument("stud' in source]
RECORDING = [name for name, source in SOURCES.items() if "@record_option(" in source]


def command_of(name: str) -> click.Command:
    if name == "bedside":
        pytest.importorskip("pynetdicom", reason="pynetdicom is not installed")
    command: click.Command = import_module(f"benchmarks.standalone.{name}").main
    return command


@pytest.mark.parametrize("name", TAKING_STUDIES)
def test_a_program_refuses_studies_without_a_slice_before_it_times_anything(
    name: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "IM0001").write_text("no slice")
    done = CliRunner().invoke(command_of(name), [str(tiny_bundle.path), str(tmp_path / "in")])
    assert isinstance(done.exception, ConfigError) and "there is nothing to measure" in str(done.exception)
    assert done.output == ""


def test_programs_that_take_studies_are_found() -> None:
    assert {"leak", "ray_nodes"} < set(TAKING_STUDIES)


def test_maps_of_a_model_that_calls_nothing_positive_are_refused(tmp_path: Path) -> None:
    blind = write_tiny_bundle(tmp_path / "blind.dtvit", middle=1e6)
    arguments = [str(blind.path), "phantoms:1@9500000", "--shuffles", "1", "--backend", "onnxruntime"]
    done = CliRunner().invoke(evidence_maps.main, [*arguments, "--out", str(tmp_path / "r")])
    assert isinstance(done.exception, ConfigError) and "nothing to judge" in str(done.exception)
    assert not (tmp_path / "r").exists()


def test_what_a_program_refuses_ends_in_a_sentence_and_its_status(tiny_bundle: Bundle, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.standalone.leak", str(tiny_bundle.path), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == ConfigError.exit_status
    assert done.stderr.startswith("error: no slice of a suitable series") and "Traceback" not in done.stderr


def test_a_record_has_the_line_that_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "measure", lambda rounds: {"import": [1.0], "help": [2.0], "bare": [3.0]})
    for arguments in ([], ["--rounds", "7"]):
        done = CliRunner().invoke(startup.main, [*arguments, "--out", str(tmp_path / "r")])
        assert done.exit_code == 0, done.output
    assert [record.options["command"] for record in read(tmp_path / "r")] == [
        "python -m benchmarks.standalone.startup",
        "python -m benchmarks.standalone.startup --rounds 7",
    ]


def test_the_line_names_no_folder_of_patients(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with click.Context(leak.main) as context:
        leak.main.parse_args(context, [str(tiny_bundle.path), str(tmp_path), "--slices", "2000", "--out", "x"])
        said = command_line(context, "leak")
    assert said == f"leak {tiny_bundle.path.name} STUDIES --slices 2000"


@pytest.mark.parametrize("name", RECORDING)
def test_one_option_says_where_a_record_goes(name: str) -> None:
    assert [one.opts for one in command_of(name).params if isinstance(one, RecordFile)] == [["--out"]]

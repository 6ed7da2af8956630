from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.command import bench, run
from benchmarks.measure import cold_start
from benchmarks.measure.configurations import Configuration
from benchmarks.settings import QUICK, Settings
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError, VerdictError
from evaluation.limits import Limits
from evaluation.repeating import command_line


def line(*arguments: str) -> str:
    with click.Context(run) as context:
        run.parse_args(context, list(arguments))
        return command_line(context, "dtvit-edge", "bench")


def test_the_recorded_line_names_no_folder_of_patients() -> None:
    said = line("/home/x/demo.dtvit", "-o", "/data/DOE^JANE/out", "--slices", "/data/DOE^JANE/labels.csv",
                "--studies", "DOE", "--weights", "/w/demo.safetensors", "--quick", "--threads", "2")  # fmt: skip
    assert said == (
        "dtvit-edge bench demo.dtvit --out OUT --weights demo.safetensors --slices SLICES --studies STUDIES "
        "--threads 2 --quick"
    )
    assert "--slices phantoms:90@8000000" in line("a.dtvit", "-o", "o", "--slices", "phantoms:90@8000000")


def test_a_quick_look_leaves_out_the_shifts_of_the_scanner() -> None:
    assert Settings(effort=QUICK).gate_limits == replace(Limits(), shift_slices=0)
    assert Settings().gate_limits == Limits() and Limits().shift_slices > 0


def test_bench_alone_is_bench_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, [str(tmp_path / "none.dtvit"), "-o", str(tmp_path / "o")])
    assert done.exception is not None and "no bundle here" in str(done.exception)
    assert "compare" in CliRunner().invoke(bench, ["--help"]).output


def test_the_help_has_the_options_of_a_run_and_the_other_commands() -> None:
    said = CliRunner().invoke(bench, ["--help"], terminal_width=80).output
    for option in [max(parameter.opts, key=len) for parameter in run.params if isinstance(parameter, click.Option)]:
        assert f"{option} " in said, option
    assert "  compare  " in said and "  report  " in said and "  run  " not in said
    assert max(map(len, said.splitlines())) <= 80
    for name, option in (("compare", "--json"), ("report", "--out")):
        assert option in CliRunner().invoke(bench, [name, "--help"]).output


@pytest.mark.parametrize("command", [bench, *bench.commands.values()], ids=lambda command: str(command.name))
def test_every_help_text_is_a_sentence(command: click.Command) -> None:
    texts = [parameter.help or "" for parameter in command.params if isinstance(parameter, click.Option)]
    for text in (command.help or "", *texts):
        assert text[:1].isupper() and text.rstrip().endswith((".", ")")), text


def test_it_is_a_command_of_dtvit_edge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path / "none.dtvit"), "-o", str(tmp_path / "o")]) == 2
    assert "no bundle here" in capsys.readouterr().err
    assert main(["bench", "compare", str(tmp_path), str(tmp_path)]) == 2


def test_a_sustained_run_of_seconds_shows_nothing() -> None:
    with pytest.raises(ConfigError, match="less than 10"):
        Settings(duration_s=5.0)


def test_a_cold_start_that_scores_nothing_is_no_cold_start(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no slice")
    with pytest.raises(VerdictError, match="ended with 4"):
        cold_start.measure(Configuration(tiny_bundle, "onnxruntime", "fp32"), tmp_path / "text.dcm", 1, None)


def test_a_cold_start_has_pythons_byte_code_as_an_installation_has(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cold_start.NO_BYTE_CODE, "1")
    code = f"import os, sys; sys.exit({cold_start.NO_BYTE_CODE!r} in os.environ)"
    monkeypatch.setattr(cold_start, "command", lambda *arguments: [sys.executable, "-S", "-c", code])
    measured = cold_start.measure(Configuration(tiny_bundle, "onnxruntime", "fp32"), tmp_path, 1, None)
    assert len(measured.seconds) == 1


def test_a_cold_start_opens_the_very_bundle_and_engines_that_this_process_was_given(tiny_bundle: Bundle) -> None:
    accepting = Bundle.open(tiny_bundle.path, accept_engines=["AB" * 32])
    words = cold_start.command(Configuration(accepting, "onnxruntime", "fp32"), Path("a"), Path("b"), None)
    given = dict(pairwise(words))
    assert (given["--expect-digest"], given["--accept-engine"]) == (tiny_bundle.digest, "ab" * 32)

"""The command parses, calls one function and prints; errors become one line and a status."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dtvit_edge.bundle import REFUSED, Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import CheckpointError, VerdictError
from dtvit_edge.spec import Window, WindowKind
from export import bundle_export
from export.command import export, unproved
from export.importing import ImportOptions


def test_bundle_is_written_and_described(
    small_checkpoint: Path, small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_export, "export_fp32", lambda *args: small_bundle.model_bytes("fp32"))  # as it gives it
    target = str(tmp_path / "a.dtvit")
    done = CliRunner().invoke(export, [str(small_checkpoint), "-o", target])
    assert done.exit_code == 0, done.output
    bundle = Bundle.open(target)
    assert bundle.digest in done.stdout and "fp32-op16" in done.stdout and "untrained" in done.stdout
    assert "exporting" in done.stderr and "exporting" not in done.stdout
    monkeypatch.setattr(bundle_export, "export_bundle", lambda *args, **options: bundle)
    again = CliRunner().invoke(export, [str(small_checkpoint), "-o", target, "--json"])
    result = json.loads(again.stdout)
    assert result["digest"] == bundle.digest and result["bundle"] == target
    assert set(result["bytes"]) == set(result["parity"]) == {"fp32", "fp32-op16", "fp16"}


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands on; the call itself ends in a verdict."""
    seen: dict[str, Any] = {}

    def stub(weights: Path, output: Path, options: ImportOptions, **given: Any) -> None:
        seen.update(vars(options), **given, weights=weights, output=output)
        raise VerdictError("differs")

    monkeypatch.setattr(bundle_export, "export_bundle", stub)
    return seen


def test_options_reach_the_one_function(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    windows = ["--window", "40,80,LINEAR", "--window", "80,200,linear_exact", "--window", "600,2800,LINEAR"]
    arguments = ["w.pt", "-o", "a.dtvit", "--encoder", "resnet18", "--training", "synthetic", *windows]
    arguments += ["--untrained-head", "location"]
    assert main(["export", *arguments]) == VerdictError.exit_status == 1
    streams = capsys.readouterr()
    assert streams.err == "error: differs\n" and not streams.out
    assert (options["weights"], options["output"]) == (Path("w.pt"), Path("a.dtvit"))
    assert (options["encoder"], options["training"], options["overwrite"]) == ("resnet18", "synthetic", False)
    assert options["untrained_heads"] == ("location",)
    assert options["windows"][1] == Window(80, 200, WindowKind.LINEAR_EXACT)


def test_haemorrhage_head_cannot_be_marked_untrained() -> None:
    done = CliRunner().invoke(export, ["w.pt", "-o", "a.dtvit", "--untrained-head", "ich"])
    assert done.exit_code == 2 and "'ich' is not 'location'" in done.stderr


@pytest.mark.parametrize("heads", [(), ("location",)], ids=["trained", "untrained"])
def test_untrained_location_head_is_said(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, heads: tuple[str, ...]
) -> None:
    parity = {"fp32": {"max_abs_difference": {"1": 0.0}}}
    bundle = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, parity=parity, untrained_heads=heads))
    monkeypatch.setattr(bundle_export, "export_bundle", lambda *args, **options: bundle)
    arguments = ["w.pt", "-o", "a.dtvit"]
    done = CliRunner().invoke(export, arguments)
    assert done.stdout.count("location head is untrained: every location is left empty") == len(heads)
    assert json.loads(CliRunner().invoke(export, [*arguments, "--json"]).stdout)["untrained_heads"] == list(heads)


def test_bundle_without_fp16_is_described_and_ends_in_a_verdict(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parity = {"fp32": {"max_abs_difference": {"1": 0.0}}, "fp16": {REFUSED: "fp16: too far"}}
    bundle = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, parity=parity))
    monkeypatch.setattr(bundle_export, "export_bundle", lambda *args, **options: bundle)
    assert main(["export", "w.pt", "-o", "a.dtvit"]) == 1
    streams = capsys.readouterr()
    assert bundle.digest in streams.out and "written without fp16: fp16: too far" in streams.err
    assert main(["export", "w.pt", "-o", "a.dtvit", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["refused"] == {"fp16": "fp16: too far"}


@pytest.mark.parametrize("text", ["40,80", "40,80,FLAT", "a,b,LINEAR", "40,0,LINEAR"])
def test_window_that_is_none_is_wrong_usage(text: str) -> None:
    done = CliRunner().invoke(export, ["w.pt", "-o", "a.dtvit", "--window", text])
    assert done.exit_code == 2 and "centre,width,kind" in done.stderr


def test_error_is_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(tmp_path / "no.pt"), "-o", str(tmp_path / "a.dtvit")]
    assert main(arguments) == CheckpointError.exit_status == 2
    error = capsys.readouterr().err
    assert "no such file" in error and "Traceback" not in error


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "export", str(tmp_path / "no.pt"), "-o", "x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ")


def test_help_needs_no_torch() -> None:
    code = "import sys; from export.command import export; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    shown = subprocess.run([sys.executable, "-m", "export", "--help"], capture_output=True, text=True, check=True)
    assert "dtvit-edge export" in shown.stdout and "--window" in shown.stdout


@pytest.mark.parametrize(
    ("given", "unseen"),
    [
        (None, ["preprocess.top_places"]),
        ({"preprocessing_proved": True, "outputs": ["logits"]}, ["preprocess.top_places"]),
        (
            {"preprocessing_proved": True, "outputs": ["ich_logits"]},
            ["heads.location.outputs", "preprocess.top_places"],
        ),
        ({"preprocessing_proved": False, "outputs": ["logits"]}, ["preprocess.mask", "preprocess.top_places"]),
    ],
    ids=["no proof", "all of a slice", "one head", "prepared tensors"],
)
def test_what_a_proof_does_not_show_stays_assumed(given: dict[str, Any] | None, unseen: list[str]) -> None:
    assumed = ["heads.ich.outputs", "heads.location.outputs", "preprocess.mask", "preprocess.top_places"]
    assert unproved(assumed, given) == unseen

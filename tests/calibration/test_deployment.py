"""From weights to what this machine can do: the steps, what is repeated, what is refused, what is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration import deploy_engines, deployment
from calibration.deploy_record import export_inputs, record_path
from calibration.deploy_steps import LEFT
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.exit_status import INTERRUPTED
from dtvit_edge.errors import VerdictError
from dtvit_edge.trt.releases import TENSORRT, Release
from export.importing import ImportOptions
from tests.support.deploy_workshop import Workshop, steps, verdicts
from tests.support.engine_records import ORIN, put, record


def test_every_step_is_a_row_of_one_table(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.deploy() == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if line.strip()]
    assert [row[0] for row in rows if row[0] in ("export", "calibrate", "build")] == ["export", "calibrate", "build"]
    assert ["int8", "passed", "model.int8.onnx"] in rows and "allowed" in said
    assert "left for the device" in said and "dtvit-edge build 'Doe Jane.dtvit' --precision fp16" in said
    assert "TensorRT: tensorrt is not installed; TensorRT for RTX: tensorrt-rtx is not installed" in said


def test_the_same_inputs_repeat_no_step(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.deploy() == 0 and workshop.runs == ["export", "calibrate"]
    digest = Bundle.open(workshop.output).digest
    capsys.readouterr()
    assert workshop.deploy("--json") == 0 and workshop.runs == []
    said = json.loads(capsys.readouterr().out)
    assert said["bundle"] == str(workshop.output) and said["passed"]
    assert [step["before"] for step in said["steps"]] == [True, True, False, False]
    assert [step["name"] for step in said["steps"]] == ["export", "calibrate", "build", "tune"]
    assert Bundle.open(workshop.output).digest == digest
    assert workshop.deploy("--overwrite") == 0 and workshop.runs == []


def test_slices_that_come_later_repeat_no_export(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.deploy("--json", sliced=False) == 0 and workshop.runs == ["export"]
    said = steps(capsys.readouterr().out)
    assert verdicts(said["calibrate"]) == {"": "not asked for"}
    assert set(verdicts(said["build"]).values()) == {"left for the device"}
    assert workshop.deploy() == 0 and workshop.runs == ["calibrate"]
    assert workshop.deploy(sliced=False) == 2 and workshop.runs == []
    assert "was calibrated, and no --slices are given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "written", "repeated"),
    [
        ("export", False, ["export", "calibrate"]),
        ("export", True, ["export", "calibrate"]),
        ("calibrate", False, ["calibrate"]),
        # Which of the two bundles lies there is not known: all is made anew.
        ("calibrate", True, ["export", "calibrate"]),
        ("build_engines", False, []),
    ],
    ids=["in export", "after export wrote", "in calibrate", "after calibrate wrote", "in build"],
)
def test_an_interrupted_deployment_goes_on_by_the_same_command(
    step: str,
    written: bool,
    repeated: list[str],
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "export_bundle" if step == "export" else step
    original = getattr(deployment, name)

    def interrupted(*args: Any, **more: Any) -> None:
        if written:
            original(*args, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deployment, name, interrupted)
        assert workshop.deploy() == INTERRUPTED
    assert "the same command continues" in capsys.readouterr().err
    assert workshop.deploy() == 0 and workshop.runs == repeated
    assert workshop.deploy() == 0 and workshop.runs == []


def other_weights(workshop: Workshop) -> list[str]:
    workshop.weights.write_bytes(b"other weights")
    return []


def other_import(workshop: Workshop) -> list[str]:
    workshop.weights.with_name("import.toml").write_text('training = "synthetic"\n')
    return []


def slices_elsewhere(workshop: Workshop) -> Path:
    copy = shutil.copytree(workshop.slices.parent, workshop.output.parent / "slices")
    workshop.slices = copy / workshop.slices.name
    return copy


def another_slice(workshop: Workshop) -> list[str]:
    copy = slices_elsewhere(workshop)
    shutil.copy(copy / "0-1.png", copy / "0-0.png")
    return []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_weights, "export: weights"),
        (other_import, "export: import_file"),
        (another_slice, "calibrate: slices"),
        (lambda workshop: ["--encoder", "test_vit"], "export: encoder"),
        (lambda workshop: ["--count", "3"], "calibrate: calibration_slices"),
    ],
    ids=["weights", "import.toml", "slices", "option of export", "option of calibrate"],
)
def test_other_inputs_are_refused_by_name_unless_overwritten(
    change: Callable[[Workshop], list[str]], named: str, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workshop.deploy() == 0
    digest = Bundle.open(workshop.output).digest
    more = change(workshop)
    assert workshop.deploy(*more) == 2 and workshop.runs == []
    assert f"other inputs of {named}; give another -o, or --overwrite" in capsys.readouterr().err
    assert Bundle.open(workshop.output).digest == digest
    assert workshop.deploy(*more, "--overwrite") == 0 and workshop.runs == ["export", "calibrate"]
    assert workshop.deploy(*more) == 0 and workshop.runs == []


def test_a_copy_of_the_slices_elsewhere_is_the_same_input(workshop: Workshop) -> None:
    assert workshop.deploy() == 0
    slices_elsewhere(workshop)
    assert workshop.deploy() == 0 and workshop.runs == []


def test_what_another_command_made_or_changed_is_refused(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.export(workshop.weights, workshop.output, ImportOptions(), overwrite=False)
    assert workshop.deploy() == 2 and workshop.runs == []
    assert "exists, and deploy did not make it" in capsys.readouterr().err
    assert workshop.deploy("--overwrite") == 0 and workshop.runs == ["export", "calibrate"]
    workshop.export(workshop.weights, workshop.output, ImportOptions(), overwrite=True)
    assert workshop.deploy() == 2
    assert "is not what deploy left; give another -o" in capsys.readouterr().err
    assert workshop.deploy("--overwrite") == 0 and workshop.runs == ["export", "calibrate"]
    (workshop.output / "model.fp16.onnx").write_bytes(b"damaged")
    assert workshop.deploy() == 2
    assert "is not what deploy left: " in capsys.readouterr().err
    record_path(workshop.output).write_text("{}")
    assert workshop.deploy() == 2
    assert "no record of a deployment" in capsys.readouterr().err
    assert workshop.deploy("--overwrite") == 0 and workshop.runs == ["export", "calibrate"]


def test_a_gate_that_says_no_leaves_fp32_and_ends_in_status_1(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.real()
    assert workshop.deploy("--agreement", "1.01", "--json") == 1
    said = capsys.readouterr()
    calibrated = steps(said.out)["calibrate"]
    assert verdicts(calibrated) == dict.fromkeys(("fp16", "int8", "int8-fp16", "fp8"), "failed")
    assert all("is not installed: " in outcome["words"] for outcome in calibrated["outcomes"])
    assert "did not pass: calibrate fp16, calibrate int8, calibrate int8-fp16" in said.err
    assert "calibrate fp8" not in said.err
    assert "--precision fp32" in said.out and "--precision int8" not in said.out
    assert set(Bundle.open(workshop.output).manifest.models) == {"fp32", "fp32-op16"}
    assert workshop.deploy("--agreement", "1.01") == 1 and workshop.runs == []


def test_too_few_slices_are_inconclusive_and_the_option_is_named(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.verdicts = [{"precision": "int8", "verdict": "inconclusive", "reasons": ["4 slices, 500 are asked"]}]
    assert workshop.deploy() == 1
    said = capsys.readouterr()
    assert "model.int8.onnx is not installed: 4 slices, 500 are asked; give more slices (--least-slices" in said.out
    assert "inconclusive" in said.out and "did not pass: calibrate int8" in said.err


def test_fp16_that_parity_refuses_does_not_stop_the_rest(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.refused = {"fp16": "fp16: too far"}
    assert workshop.deploy("--json") == 1 and workshop.runs == ["export", "calibrate"]
    said = capsys.readouterr()
    assert verdicts(steps(said.out)["export"]) == {"fp32": "passed", "fp32-op16": "passed", "fp16": "failed"}
    assert "left out: fp16: too far" in said.out and "did not pass: export fp16" in said.err


def test_a_verdict_of_export_ends_the_run_with_the_table(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise VerdictError("fp32: ONNX Runtime differs from PyTorch")

    monkeypatch.setattr(deployment, "export_bundle", refuse)
    assert workshop.deploy("--json") == 1 and workshop.runs == []
    said = json.loads(capsys.readouterr().out)
    assert not said["passed"] and [step["name"] for step in said["steps"]] == ["export"]
    assert said["steps"][0]["outcomes"][0]["words"] == "fp32: ONNX Runtime differs from PyTorch"
    assert not workshop.output.exists()


def test_a_verdict_of_calibrate_leaves_the_bundle_as_it_was(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise VerdictError("the range of its input is inf")

    with monkeypatch.context() as patched:
        patched.setattr(deployment, "calibrate", refuse)
        assert workshop.deploy("--json") == 1
    said = steps(capsys.readouterr().out)
    assert verdicts(said["calibrate"]) == {"": "failed"} and "fp32" in verdicts(said["build"])
    assert workshop.deploy() == 0 and workshop.runs == ["calibrate"]


def test_slices_that_do_not_do_are_wrong_usage_before_the_export(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.csv"
    lines = workshop.slices.read_text().splitlines()
    few.write_text("\n".join([lines[0], *(f"{workshop.slices.parent}/{line}" for line in lines[1:3])]))
    workshop.slices = few
    assert workshop.deploy() == 2 and workshop.runs == []
    assert "1 patients; the calibration, validation and test sets need at least 5" in capsys.readouterr().err
    assert not workshop.output.exists() and not record_path(workshop.output).exists()


@pytest.mark.parametrize("option", [("--count", "3"), ("--test-slices", "x"), ("--no-smooth",)], ids=lambda o: o[0])
def test_an_option_of_the_calibration_without_slices_is_wrong_usage(
    option: tuple[str, ...], workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workshop.deploy(*option, sliced=False) == 2 and workshop.runs == []
    assert "goes with --slices" in capsys.readouterr().err


def test_no_path_is_written_down(workshop: Workshop, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text("def build(): ...\n")
    assert workshop.deploy("--model", f"{code}:build") == 0
    text = record_path(workshop.output).read_text()
    assert str(tmp_path) not in text and workshop.slices.name not in text and "net.py" not in text


def test_every_file_that_an_export_reads_is_an_input(workshop: Workshop, tmp_path: Path) -> None:
    code, given, expected = tmp_path / "net.py", tmp_path / "own.toml", tmp_path / "expected"
    expected.mkdir()
    files = [workshop.weights, code, given, expected / "expected.csv", tmp_path / "config.json"]
    for file in files:
        file.write_text('training = "synthetic"')
    options = ImportOptions(import_file=given, model=f"{code}:build")
    seen = [export_inputs(workshop.weights, options, expected)]
    for file in files:
        file.write_text('training = "untrained"')
        seen.append(export_inputs(workshop.weights, options, expected))
    seen.append(export_inputs(workshop.weights, replace(options, model=f"{code}:other"), expected))
    assert len({json.dumps(inputs) for inputs in seen}) == len(seen)


@pytest.fixture
def gpu(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with an Orin and TensorRT 10.3; what is built, in order."""
    built = []

    def build(bundle: Bundle, options: Any, prove: object) -> Any:
        built.append(options.precision)
        if options.precision == "fp16":
            raise VerdictError("fp16: differs from the golden logits; it is not installed")
        made = record(bundle, options.precision)
        put(bundle, made)
        return made

    monkeypatch.setattr(deploy_engines.backend, "unavailable", lambda f: None if f == TENSORRT else "not installed")
    monkeypatch.setattr(deploy_engines.library, "load", lambda flavour: (None, Release(flavour, "10.3.0")))
    monkeypatch.setattr(deploy_engines, "find", lambda: ORIN)
    monkeypatch.setattr(deploy_engines, "build_engine", build)
    return built


def test_engines_are_built_where_a_gpu_is_and_kept_while_they_fit(
    workshop: Workshop, gpu: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert workshop.deploy("--json", sliced=False) == 1 and gpu == ["fp32", "fp16"]
    said = capsys.readouterr()
    built = steps(said.out)["build"]
    assert verdicts(built) == {"fp32": "passed", "fp16": "failed"} and built["seconds"] is not None
    assert "did not pass: build fp16" in said.err
    gpu.clear()
    assert workshop.deploy("--json", sliced=False) == 1 and gpu == ["fp16"]
    assert "built before" in capsys.readouterr().out
    next((workshop.output / "engines").glob("*fp32*.plan")).write_bytes(b"damaged")
    gpu.clear()
    assert workshop.deploy(sliced=False) == 1 and gpu == ["fp32", "fp16"]


def test_fp8_is_left_where_the_gpu_has_none(two_block_bundle: Bundle, gpu: list[str]) -> None:
    outcome = deploy_engines._build(two_block_bundle, "fp8", TENSORRT)
    assert (outcome.verdict, gpu) == (LEFT, []) and "SM 8.7 with TensorRT 10.3.0 has no FP8" in outcome.words

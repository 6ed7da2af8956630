"""What a manifest says of the gate: by configuration, and never passed where nothing was asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle, Manifest, write_bundle
from dtvit_edge.bundle.verdicts import configuration_name, gate_verdicts, real_verdict, switched_off, verdict_of
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import BundleError
from tests.support.tiny_bundle import write_tiny_bundle

VERDICTS = [{"precision": "fp16", "verdict": "passed"}, {"precision": "int8", "verdict": "inconclusive"}]
OLD = {"verdicts": VERDICTS, "config": {"limits": {"agreement": 0.995, "auc": 0.002, "slices": 500}}}
OFF = {"agreement": 0.0, "auc": 1.0, "slices": 100}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "tiny.dtvit")


def manifest(bundle: Bundle, calibration: dict[str, Any] | None) -> Manifest:
    """A manifest with this summary, written and read back."""
    return Manifest.from_json(replace(bundle.manifest, calibration=calibration).to_json())


def test_a_configuration_has_a_verdict_of_its_own(tiny: Bundle) -> None:
    hinted = {"int8+bf16": {"precision": "int8+bf16", "verdict": "failed", "ran_on": "openvino 2026.4, hint bf16"}}
    said = manifest(tiny, OLD | {"configurations": hinted})
    assert gate_verdicts(said) == {"fp16": "passed", "int8": "inconclusive", "int8+bf16": "failed"}
    assert verdict_of(said, "int8", "bf16") == "failed" and verdict_of(said, "int8", "f32") == "inconclusive"
    assert verdict_of(said, "fp32", "bf16") == "not assessed" and configuration_name("int8") == "int8"


def test_a_manifest_from_before_configurations_and_one_without_a_calibration_still_open(tiny: Bundle) -> None:
    assert gate_verdicts(manifest(tiny, OLD)) == {"fp16": "passed", "int8": "inconclusive"}
    assert gate_verdicts(manifest(tiny, {"verdicts": VERDICTS})) == {"fp16": "passed", "int8": "inconclusive"}
    assert gate_verdicts(manifest(tiny, None)) == {} and gate_verdicts(manifest(tiny, {})) == {}


@pytest.mark.parametrize("name", ["agreement", "auc", "difference", "shift_agreement", "shift_slices"])
def test_what_passed_while_a_limit_was_off_is_not_gated(name: str) -> None:
    off = {"agreement": 0, "auc": 1, "difference": 1, "shift_agreement": 0, "shift_slices": 0}[name]
    assert switched_off({"slices": 500, name: off}) == (name,)
    assert real_verdict("passed", {name: off}) == "not gated" and real_verdict("failed", {name: off}) == "failed"
    assert switched_off({name: 0.5 if name != "shift_slices" else 1}) == () == switched_off({})


def test_inspect_shows_the_gate_and_says_not_gated(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {record.file: tiny.model_bytes(name) for name, record in tiny.manifest.models.items()}
    contents |= {record.file: tiny.file_bytes(record) for record in tiny.manifest.golden.values()}
    calibration = {"verdicts": [{"precision": "int8", "verdict": "passed"}], "config": {"limits": OFF}}
    path = write_bundle(tmp_path / "t.dtvit", replace(tiny.manifest, calibration=calibration), contents).path
    assert main(["-q", "inspect", str(path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "gate of int8" in line)
    assert line.split("gate of int8")[1].strip() == "not gated"
    assert main(["-q", "inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gate"] == {"int8": "not gated"}
    assert gate_verdicts(Bundle.open(path).manifest) == {"int8": "not gated"}


@pytest.mark.parametrize(
    "calibration",
    [
        {"verdicts": [{"precision": "int8", "verdict": "excellent"}]},
        {"verdicts": {"int8": "passed"}},
        {"configurations": {"int8+bf16": "passed"}},
        {"config": {"limits": {"agreement": "0"}}},
    ],
    ids=["word", "no list", "no verdict", "text"],
)
def test_a_summary_that_is_none_is_refused(calibration: dict[str, Any], tiny: Bundle) -> None:
    with pytest.raises(BundleError, match="not a manifest of a bundle: calibration"):
        manifest(tiny, calibration)

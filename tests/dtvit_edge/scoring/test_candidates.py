"""What `tune` may measure of a bundle on a machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring import candidates
from dtvit_edge.scoring.candidates import Setting, find_settings
from dtvit_edge.scoring.configuration import verdict
from dtvit_edge.trt.verdicts import engine_verdict, passed_precisions
from tests.support.engine_records import put, record
from tests.support.tiny_bundle import edit_manifest
from tests.support.tuning_world import write_tunable_bundle


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight logical cores on four, OpenVINO that knows bf16, and a TensorRT."""
    monkeypatch.setattr(candidates, "usable_cores", lambda: 8)
    monkeypatch.setattr(candidates, "physical_cores", lambda: 4)
    monkeypatch.setattr(backends, "native_hints", lambda name: ("bf16",) if name == "openvino" else ())
    monkeypatch.setattr(
        backends, "availability", lambda: {"tensorrt": None, "openvino": None, "onnxruntime": "it is not installed"}
    )


def test_threads_are_one_and_the_physical_and_the_logical_cores(tmp_path: Path) -> None:
    settings, left_out = find_settings(write_tunable_bundle(tmp_path / "b.dtvit", int8="passed", hinted="passed"))
    assert {s.threads for s in settings} == {1, 4, 8}
    assert {(s.precision, s.hint) for s in settings} == {("fp32", None), ("int8", None), ("int8", "bf16")}
    assert settings[0] == Setting("openvino", "fp32", None, 8), "what there is to fall back on comes first"
    assert settings[1] == Setting("openvino", "int8", "bf16", 8)
    assert left_out == {
        "openvino fp32+bf16": "gate: not assessed",
        "onnxruntime": "it is not installed",
        "tensorrt": "nothing that it runs is in this copy of the bundle: engines that `build` makes",
    }


def test_a_model_without_empty_patches_is_a_candidate_behind_fp32_and_by_a_verdict_of_its_own(
    trimmed_bundle: Bundle, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(trimmed_bundle.path, tmp_path / "b.dtvit"))
    settings, left_out = find_settings(Bundle.open(path))
    assert {(s.precision, s.hint) for s in settings} == {("fp32", None), ("fp32-trimmed", None)}
    assert settings[:2] == [Setting("openvino", "fp32", None, 8), Setting("openvino", "fp32-trimmed", None, 8)]
    assert left_out["openvino fp32-trimmed+bf16"] == "gate: not assessed"
    verdicts = [{"precision": "int8", "verdict": "failed"}, {"precision": "int8-trimmed", "verdict": "passed"}]
    hinted = {"int8-trimmed+bf16": {"precision": "int8-trimmed+bf16", "verdict": "passed"}}
    edit_manifest(path, calibration={"verdicts": verdicts, "configurations": hinted})
    bundle = Bundle.open(path)
    said = {hint: verdict(bundle, "openvino", "int8-trimmed", hint) for hint in (None, "bf16")}
    assert said == {None: "passed", "bf16": "passed"}
    assert verdict(bundle, "openvino", "int8", None) == "failed"


def test_an_engine_is_a_candidate_where_what_it_computes_passed_and_has_no_threads(
    typed_bundle: Bundle, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(typed_bundle.path, tmp_path / "b.dtvit"))
    said = [{"precision": "int8-fp16", "verdict": "passed"}, {"precision": "int8", "verdict": "failed"}]
    edit_manifest(path, calibration={"verdicts": said})
    bundle = Bundle.open(path)
    assert engine_verdict(bundle.manifest, "int8") == engine_verdict(bundle.manifest, "fp32") == "passed"
    assert engine_verdict(bundle.manifest, "fp16") == "not assessed"
    assert passed_precisions(bundle.manifest) == ["int8"]
    assert passed_precisions(typed_bundle.manifest) == ["fp32"]
    for precision in ("fp16", "int8"):
        put(bundle, record(bundle, precision))
    settings, left_out = find_settings(bundle)
    assert [s for s in settings if s.backend == "tensorrt"] == [Setting("tensorrt", "int8")]
    assert left_out["tensorrt fp16"] == "gate: not assessed" and left_out["openvino int8"] == "gate: failed"

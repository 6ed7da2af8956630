"""A bundle of a ViT that leaves out empty patches gains two int8 files for CPUs, of the same integers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.calibrate import CalibrationResult, Config, calibrate
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.verdicts import gate_verdicts
from dtvit_edge.cli.commands import main
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec
from evaluation.limits import Limits
from evaluation.sampling import SETS, candidates, load_set, split_into_sets
from tests.support.bordered import bordered

pytestmark = pytest.mark.usefixtures("coarse_entropy")
LIMITS = Limits(agreement=0.5, auc=0.99, slices=10, shift_agreement=0.5, difference=0.9, shift_slices=4)


@pytest.fixture(scope="module")
def result(trimmed_bundle: Bundle, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> CalibrationResult:
    by_set = split_into_sets(candidates([pictures]), seed=0)
    sets = {name: load_set(by_set[name], 12, PreprocessSpec(), seed=0, name=name) for name in SETS}
    path = tmp_path_factory.mktemp("calibrated") / "trimmed.dtvit"
    shutil.copytree(trimmed_bundle.path, path)
    return calibrate(Bundle.open(path), sets, Config(sensitivity_slices=2, limits=LIMITS))


def test_both_int8_files_are_installed_by_verdicts_of_their_own(result: CalibrationResult) -> None:
    manifest = Bundle.open(result.bundle.path).manifest
    added = {"int8", "int8-trimmed", "int8-fp16", "fp8"}
    assert set(manifest.models) == added | {"fp32", "fp32-op16", "fp16", "fp32-trimmed"}
    judged = gate_verdicts(manifest)
    assert judged["int8"] == judged["int8-trimmed"] == "passed"
    hints = backends.native_hints("openvino") if backends.availability()["openvino"] is None else ()
    assert {f"{name}+{hint}" for name in ("int8", "int8-trimmed") for hint in hints} <= set(judged)
    assert manifest.tolerances["int8-trimmed"] > 0


def test_they_have_the_same_integers_and_ranges(result: CalibrationResult) -> None:
    whole, trimmed = (
        {t.name: t for t in onnx.load_model_from_string(result.bundle.model_bytes(name)).graph.initializer}
        for name in ("int8", "int8-trimmed")
    )
    integers = [name for name, tensor in whole.items() if tensor.data_type == TensorProto.INT8]
    assert sum("_quantized" in name for name in integers) == 4 + 5
    for name in (*integers, *(name for name in whole if name.endswith("_scale"))):
        assert np.array_equal(numpy_helper.to_array(whole[name]), numpy_helper.to_array(trimmed[name]))


def test_they_answer_as_each_other_but_for_rounding(result: CalibrationResult) -> None:
    logits = {}
    for name in ("int8", "int8-trimmed"):
        with backends.create("onnxruntime", lambda n=name: result.bundle.model_bytes(n), name) as backend:
            logits[name] = backend.infer(bordered())
    spread = min(result.bundle.manifest.reference.spread.values())
    for head in OUTPUT_NAMES:
        assert np.abs(logits["int8"][head] - logits["int8-trimmed"][head]).max() <= 0.1 * spread


def test_every_cpu_backend_verifies_them(result: CalibrationResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "verify", str(result.bundle.path), "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)["selftests"]
    here = {name for name, why_not in backends.availability().items() if why_not is None}
    assert {(t["backend"], t["precision"]) for t in tested} == {
        (name, precision)
        for name in here
        for precision in ("fp32", "fp32-op16", "int8", "fp32-trimmed", "int8-trimmed")
    }

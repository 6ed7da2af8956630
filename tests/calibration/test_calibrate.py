"""A bundle gains its int8 files, or keeps what it had."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration import calibrate as module
from calibration import files as calibrated_files
from calibration.calibrate import CalibrationResult, Config, calibrate
from calibration.quantizable import weight_ops
from calibration.ranges import HEADROOM
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.verdicts import gate_verdicts, verdict_of
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import BundleError, ConfigError, VerdictError
from dtvit_edge.precisions import LOWER
from dtvit_edge.spec import PreprocessSpec
from evaluation.gate import Logits, Verdict
from evaluation.limits import Limits
from evaluation.sampling import SETS, Pixels, SliceSet, candidates, load_set, split_into_sets
from evaluation.scanner_shifts import SHIFTS

pytestmark = pytest.mark.usefixtures("coarse_entropy")
BLOCKS = 2
OPS = 4 + 5  # of the weights; the last block's keys and queries are apart
PRODUCTS = 2 * BLOCKS  # of two activations
LENIENT_LIMITS = Limits(agreement=0.5, auc=0.99, slices=10, shift_agreement=0.5, difference=0.9, shift_slices=4)
LENIENT = Config(sensitivity_slices=2, limits=LENIENT_LIMITS)


@pytest.fixture(scope="module")
def sets(pictures: Path) -> dict[str, SliceSet]:
    candidates_by_set = split_into_sets(candidates([pictures]), seed=0)
    return {name: load_set(candidates_by_set[name], 12, PreprocessSpec(), seed=0, name=name) for name in SETS}


def copy(two_block_bundle: Bundle, folder: Path) -> Bundle:
    shutil.copytree(two_block_bundle.path, folder / two_block_bundle.path.name)
    return Bundle.open(folder / two_block_bundle.path.name)


@pytest.fixture(scope="module")
def result(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path_factory: pytest.TempPathFactory
) -> CalibrationResult:
    return calibrate(copy(two_block_bundle, tmp_path_factory.mktemp("calibrated")), sets, LENIENT)


def test_what_passes_is_installed_with_its_facts(result: CalibrationResult, two_block_bundle: Bundle) -> None:
    assert result.passed and result.kept_higher == ()
    manifest = Bundle.open(result.bundle.path).manifest
    assert set(manifest.models) == {"fp32", "fp32-op16", "fp16", "int8", "int8-fp16", "fp8"}
    facts = manifest.models["int8"].facts
    assert (facts["opset"], facts["quantize_linear"], facts["dequantize_linear"]) == (17, OPS, 2 * OPS)
    assert facts["operators"]["Sub"] == BLOCKS  # behind GELU
    fp8 = manifest.models["fp8"].facts
    assert (fp8["opset"], fp8["quantize_linear"], fp8["dequantize_linear"]) == (19, OPS, 2 * OPS)
    assert "Sub" not in fp8["operators"] and set(manifest.tolerances) == set(manifest.models)
    assert manifest.models["int8-fp16"].facts["opset"] == 19
    assert facts["attention"] == manifest.models["fp32"].facts["attention"]
    assert result.bundle.model_bytes("fp32") == two_block_bundle.model_bytes("fp32")
    assert manifest.golden == two_block_bundle.manifest.golden


def test_the_manifest_says_what_was_done(result: CalibrationResult, sets: dict[str, SliceSet]) -> None:
    said = result.bundle.manifest.calibration
    profile = result.bundle.manifest.profile
    assert profile is not None and profile["calibration"]["slices"] == len(sets["calibration"])
    assert "golden" in profile, "that of export is kept"
    assert said is not None
    assert (
        set(said["methods"]) == {"minmax", "wide", "entropy", "percentile", "mse"} and said["method"] in said["methods"]
    )
    assert said["slices"] == {name: list(slices.labels.digests) for name, slices in sets.items()}
    assert not set(said["slices"]["calibration"]) & set(said["slices"]["test"])
    assert [v["precision"] for v in said["verdicts"]] == ["fp16", "int8", "int8-fp16", "fp8"]
    costs = [c["rms"] for c in said["sensitivity"]["ops"]]
    assert len(costs) == OPS and costs == sorted(costs, reverse=True) and costs[-1] > 0
    assert len(said["ranges"]) == OPS
    for verdict in said["verdicts"]:
        assert [one["name"] for one in verdict["elsewhere"]] == [shift.name for shift in SHIFTS]
        assert {one["ich"]["slices"] for one in verdict["elsewhere"]} == {4} and verdict["studies"]["slices"] == 4
        assert verdict["ran_on"].startswith("onnxruntime ")
    assert gate_verdicts(result.bundle.manifest) == {v.precision: v.verdict for v in judged(result)}
    assert "P1" not in json.dumps(said)  # patients are nowhere


def judged(result: CalibrationResult) -> list[Verdict]:
    return [*result.verdicts, *result.configurations]


def test_a_hint_that_this_processor_computes_in_has_a_verdict_of_its_own(result: CalibrationResult) -> None:
    here = [name for name, why_not in backends.availability().items() if why_not is None]
    hints = {hint for name in here if not backends.runs_engines(name) for hint in backends.native_hints(name)}
    said = result.bundle.manifest.calibration
    assert said is not None and set(said["configurations"]) == {f"int8+{hint}" for hint in hints}
    for hint in hints:
        assert verdict_of(result.bundle.manifest, "int8", hint) == said["configurations"][f"int8+{hint}"]["verdict"]
        assert said["configurations"][f"int8+{hint}"]["ran_on"].endswith(f", hint {hint}")
    assert verdict_of(result.bundle.manifest, "fp32", "f16") == "not assessed"


def test_every_cpu_backend_verifies_int8(result: CalibrationResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "verify", str(result.bundle.path), "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)["selftests"]
    here = {name for name, why_not in backends.availability().items() if why_not is None}
    assert {(t["backend"], t["precision"]) for t in tested} == {
        (name, precision) for name in here for precision in ("fp32", "fp32-op16", "int8")
    }


def test_a_thin_copy_is_refused_before_anything_is_read(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy(two_block_bundle, tmp_path)
    bundle.model_path("fp32-op16").unlink()
    thin = Bundle.open(bundle.path)
    with pytest.raises(BundleError, match=r"whole bundle is needed; model\.fp32-op16\.onnx: not in this copy"):
        calibrate(thin, sets, LENIENT)
    assert main(["calibrate", str(bundle.path), "--slices", "nowhere"]) == 2
    assert "whole bundle is needed" in capsys.readouterr().err


def test_other_peoples_files_in_the_bundles_folder_stop_it_before_anything_is_read(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    bundle = copy(two_block_bundle, tmp_path)
    (bundle.path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds what no bundle has"):
        calibrate(bundle, sets, LENIENT)
    assert (bundle.path / "notes.txt").read_text() == "mine"


def test_the_same_calibration_gives_the_same_bytes(
    result: CalibrationResult, two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    again = calibrate(copy(two_block_bundle, tmp_path), sets, LENIENT)
    assert again.bundle.digest == result.bundle.digest


def test_what_fails_is_not_installed(two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path) -> None:
    broken = copy(two_block_bundle, tmp_path)
    strict = Config(sensitivity_slices=2, keep_higher_limit=0.0, limits=replace(LENIENT_LIMITS, agreement=1.01))
    result = calibrate(broken, sets, strict)
    assert not result.passed
    assert set(result.bundle.manifest.models) == {"fp32", "fp32-op16"}
    assert sorted(p.name for p in broken.path.glob("*.onnx")) == ["model.fp32-op16.onnx", "model.fp32.onnx"]
    said = result.bundle.manifest.calibration
    assert said is not None and {v["verdict"] for v in said["verdicts"]} == {"failed"}


def test_what_is_not_asked_for_is_neither_made_nor_judged(
    result: CalibrationResult, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    again = calibrate(copy(result.bundle, tmp_path), sets, replace(LENIENT, only=("int8",)))
    assert [verdict.precision for verdict in again.verdicts] == ["int8"] and again.passed and not again.refused
    before, after = result.bundle.manifest.models, again.bundle.manifest.models
    # Of another calibration's ranges; fp16 is of the export, which stays.
    assert set(before) - set(after) == {"int8-fp16", "fp8"} & set(before) and after["fp16"] == before["fp16"]
    assert again.bundle.model_bytes("int8") == result.bundle.model_bytes("int8")
    with pytest.raises(ConfigError, match="no lower precision is called fp32"):
        replace(LENIENT, only=("fp32",))
    digest = again.bundle.digest
    with pytest.raises(ConfigError, match="of a model that leaves out no patches: there can be no int8-trimmed of it"):
        calibrate(again.bundle, sets, replace(LENIENT, only=("int8-trimmed",)))
    assert Bundle.open(again.bundle.path).digest == digest and "int8" in Bundle.open(again.bundle.path).manifest.models


def test_too_few_slices_are_inconclusive_and_install_no_int8(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    result = calibrate(
        copy(two_block_bundle, tmp_path), sets, Config(sensitivity_slices=2, limits=replace(LENIENT_LIMITS, slices=500))
    )
    assert {v.verdict for v in result.verdicts} == {"inconclusive"}
    assert set(result.bundle.manifest.models) == {"fp32", "fp32-op16", "fp16"}


def test_the_recipe_for_fused_attention_quantises_its_products_too(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    result = calibrate(copy(two_block_bundle, tmp_path), sets, replace(LENIENT, recipe="attention"))
    assert result.passed and len(result.costs) == OPS + PRODUCTS
    for precision in ("int8", "int8-fp16"):
        model = onnx.load_model_from_string(result.bundle.model_bytes(precision))
        made = {name: node for node in model.graph.node for name in node.output}
        ops = [n for n in model.graph.node if n.op_type == "MatMul"]
        assert len(ops) == OPS + PRODUCTS
        assert {made[name].op_type for n in ops for name in n.input} == {"DequantizeLinear"}
    quantised = {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    softmax = {n.output[0] for n in model.graph.node if n.op_type == "Softmax"}
    behind = [n.output[0] for n in model.graph.node if n.op_type == "Cast" and n.input[0] in softmax]
    assert len(behind) == BLOCKS and set(behind) <= quantised  # softmax itself stays in float32
    said = result.bundle.manifest.calibration
    assert said is not None and said["config"]["recipe"] == "attention"
    largest = {name: ends for name, ends in said["ranges"].items() if name.startswith("softmax")}
    assert len(largest) == BLOCKS and all(0 <= low < high <= HEADROOM for low, high in largest.values())
    with pytest.raises(ConfigError, match="recipe is 'all'"):
        Config(recipe="all")


def test_the_worst_ops_are_kept_higher_until_the_gate_holds(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    def fails_twice(self: module._Calibrator, precision: str, data: bytes, share: float) -> bool:
        judged.append(onnx.load_model_from_string(data).graph.node.__len__())
        return len(judged) > 2

    monkeypatch.setattr(module._Calibrator, "passes", fails_twice)
    result = calibrate(
        copy(two_block_bundle, tmp_path),
        sets,
        Config(sensitivity_slices=2, limits=replace(LENIENT_LIMITS, agreement=0.9)),
    )
    assert result.kept_higher == tuple(c.name for c in result.costs[:2])
    said = result.bundle.manifest.calibration
    assert said is not None and said["ops"]["int8"]["quantised"] == OPS - 2
    assert judged == sorted(judged, reverse=True)  # every time fewer Q/DQ


@pytest.mark.parametrize(("share", "number", "kept"), [(0.5, 2, 2), (1.0, 1, 1), (1.0, 0, 0), (2.0, 0, 4)])
def test_where_no_number_of_ops_leaves_room_to_spare_as_few_are_kept_as_keep_the_limits(
    result: CalibrationResult,
    sets: dict[str, SliceSet],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    number: int,
    kept: int,
) -> None:
    calibrator = module._Calibrator(result.bundle, sets, LENIENT, module.silent)
    model, spans = calibrator.smoothed()
    asked: list[float] = []

    def passes(self: module._Calibrator, precision: str, data: bytes, of: float) -> bool:
        asked.append(of)
        return of == share and asked.count(of) == number + 1

    monkeypatch.setattr(module._Calibrator, "passes", passes)
    quantised, names = calibrator.keep_worst_higher(model, spans, result.costs)
    assert names == tuple(cost.name for cost in result.costs[:kept])
    assert len(quantised) == OPS - kept and asked == sorted(asked)


def test_the_method_is_chosen_where_the_scanner_is_another_one_as_well(
    result: CalibrationResult, sets: dict[str, SliceSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrator = module._Calibrator(result.bundle, sets, LENIENT, module.silent)
    model, spans = calibrator.smoothed()
    narrow = {name: span.to(span.largest * 0.4) for name, span in spans.items()}
    few = SliceSet(sets["validation"].pixels[:2], sets["validation"].labels)
    near = {name: calibrator.reference("validation") for name in ("validation", "elsewhere")}
    ran = {
        "trying narrow": 0.01,
        "trying minmax": 0.02,
        "trying narrow: elsewhere": 0.5,
        "trying minmax: elsewhere": 0.03,
    }

    def run(precision: str, data: bytes, pixels: Pixels, name: str) -> Logits:
        reference = near["elsewhere" if name.endswith("elsewhere") else "validation"]
        return {key: logits[: len(pixels)] + np.float32(ran.get(name, 0.0)) for key, logits in reference.items()}

    monkeypatch.setattr(calibrator, "run", run)
    ranges = {"narrow": narrow, "minmax": spans}
    calibrator.__dict__["validation_elsewhere"] = {}
    assert calibrator.choose_method(model, ranges)[0] == "narrow"
    calibrator.__dict__["validation_elsewhere"] = {"elsewhere": few}
    calibrator._reference["elsewhere"] = near["elsewhere"]
    method, errors = calibrator.choose_method(model, ranges)
    assert method == "minmax" and errors["narrow"][1] == pytest.approx(0.354, abs=1e-3)


def test_a_range_that_is_not_finite_leaves_the_bundle_as_it_was(
    two_block_bundle: Bundle, sets: dict[str, SliceSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy(two_block_bundle, tmp_path)
    before = bundle.digest
    ops = weight_ops(onnx.load_model_from_string(bundle.model_bytes("fp32")))
    monkeypatch.setitem(module.METHODS, "mse", lambda histogram: float("inf"))
    with pytest.raises(VerdictError, match=f"{ops[0].name}: the range of its input is .*-inf to inf"):
        calibrate(bundle, sets, LENIENT)
    assert Bundle.open(bundle.path).digest == before
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_golden_logits_that_are_not_finite_leave_the_bundle_as_it_was(
    result: CalibrationResult, two_block_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy(two_block_bundle, tmp_path)
    before = bundle.digest
    files = {name: result.bundle.model_bytes(name) for name in LOWER if name in result.bundle.manifest.models}
    monkeypatch.setattr(calibrated_files, "largest_deviation", lambda *compared: float("nan"))
    with pytest.raises(VerdictError, match=r"int8.*: a logit of the golden slices is not finite; nothing was written"):
        calibrated_files.install(bundle, files, result.verdicts, {}, {})
    assert Bundle.open(bundle.path).digest == before


def test_int8_answers_like_fp32(result: CalibrationResult, sets: dict[str, SliceSet]) -> None:
    calibrator = module._Calibrator(result.bundle, sets, LENIENT, module.silent)
    reference = calibrator.reference("test")
    logits = calibrator.run("int8", result.bundle.model_bytes("int8"), sets["test"].pixels)
    for name in reference:
        assert np.corrcoef(reference[name].ravel(), logits[name].ravel())[0, 1] > 0.99

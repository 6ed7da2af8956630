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
from calibration.calibrate import Config, Outcome, calibrate
from calibration.quantizable import weight_ops
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import BundleError, ConfigError, VerdictError
from dtvit_edge.spec import PreprocessSpec
from evaluation.gate import Limits
from evaluation.sampling import SETS, SliceSet, candidates, deal, load

LENIENT = Config(sensitivity=2, limits=Limits(agreement=0.5, auc=1.0, slices=10))


@pytest.fixture(scope="module")
def sets(pictures: Path) -> dict[str, SliceSet]:
    dealt = deal(candidates([pictures]), seed=0)
    return {name: load(dealt[name], 12, PreprocessSpec(), seed=0, name=name) for name in SETS}


def copy(exported: Bundle, folder: Path) -> Bundle:
    shutil.copytree(exported.path, folder / exported.path.name)
    return Bundle.open(folder / exported.path.name)


@pytest.fixture(scope="module")
def outcome(exported: Bundle, sets: dict[str, SliceSet], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return calibrate(copy(exported, tmp_path_factory.mktemp("calibrated")), sets, LENIENT)


def test_what_passes_is_installed_with_its_facts(outcome: Outcome, exported: Bundle) -> None:
    assert outcome.passed and outcome.given_back == ()
    manifest = Bundle.open(outcome.bundle.path).manifest
    assert set(manifest.models) == {"fp32", "fp32-op16", "fp16", "int8", "int8-fp16"}
    facts = manifest.models["int8"].facts
    assert (facts["opset"], facts["quantize_linear"], facts["dequantize_linear"]) == (17, 25, 50)
    assert manifest.models["int8-fp16"].facts["opset"] == 19
    assert facts["attention"] == manifest.models["fp32"].facts["attention"]
    assert outcome.bundle.model_bytes("fp32") == exported.model_bytes("fp32")
    assert manifest.golden == exported.manifest.golden


def test_the_manifest_says_what_was_done(outcome: Outcome, sets: dict[str, SliceSet]) -> None:
    said = outcome.bundle.manifest.calibration
    assert said is not None
    assert set(said["methods"]) == {"minmax", "entropy", "percentile", "mse"} and said["method"] in said["methods"]
    assert said["slices"] == {name: list(own.cases.digests) for name, own in sets.items()}
    assert not set(said["slices"]["ranges"]) & set(said["slices"]["verdict"])
    assert [v["precision"] for v in said["verdicts"]] == ["fp16", "int8", "int8-fp16"]
    costs = [c["rms"] for c in said["sensitivity"]["ops"]]
    assert len(costs) == 25 and costs == sorted(costs, reverse=True) and costs[-1] > 0
    assert len(said["ranges"]) == 25
    assert "P1" not in json.dumps(said)  # patients are nowhere


def test_every_cpu_backend_verifies_int8(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "verify", str(outcome.bundle.path), "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)["selftests"]
    here = {name for name, why_not in backends.availability().items() if why_not is None}
    assert {(t["backend"], t["precision"]) for t in tested} == {
        (name, precision) for name in here for precision in ("fp32", "fp32-op16", "int8")
    }


def test_a_thin_copy_is_refused_before_anything_is_read(
    exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy(exported, tmp_path)
    bundle.model_path("fp32-op16").unlink()
    thin = Bundle.open(bundle.path)
    with pytest.raises(BundleError, match=r"whole bundle is needed; model\.fp32-op16\.onnx: not in this copy"):
        calibrate(thin, sets, LENIENT)
    assert main(["calibrate", str(bundle.path), "--slices", "nowhere"]) == 2
    assert "whole bundle is needed" in capsys.readouterr().err


def test_the_same_calibration_gives_the_same_bytes(
    outcome: Outcome, exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    again = calibrate(copy(exported, tmp_path), sets, LENIENT)
    assert again.bundle.digest == outcome.bundle.digest


def test_what_fails_is_not_installed(exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path) -> None:
    broken = copy(exported, tmp_path)
    strict = Config(sensitivity=2, give_back=0.0, limits=Limits(agreement=1.01, slices=10))
    outcome = calibrate(broken, sets, strict)
    assert not outcome.passed
    assert set(outcome.bundle.manifest.models) == {"fp32", "fp32-op16"}
    assert sorted(p.name for p in broken.path.glob("*.onnx")) == ["model.fp32-op16.onnx", "model.fp32.onnx"]
    said = outcome.bundle.manifest.calibration
    assert said is not None and {v["verdict"] for v in said["verdicts"]} == {"failed"}


def test_too_few_slices_are_inconclusive_and_install_no_int8(
    exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    outcome = calibrate(copy(exported, tmp_path), sets, Config(sensitivity=2, limits=Limits(0.5, 1.0, 500)))
    assert {v.verdict for v in outcome.verdicts} == {"inconclusive"}
    assert set(outcome.bundle.manifest.models) == {"fp32", "fp32-op16", "fp16"}


def test_the_recipe_for_fused_attention_quantises_its_products_too(
    exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path
) -> None:
    outcome = calibrate(copy(exported, tmp_path), sets, replace(LENIENT, recipe="attention"))
    assert outcome.passed and len(outcome.costs) == 25 + 12
    for precision in ("int8", "int8-fp16"):
        model = onnx.load_model_from_string(outcome.bundle.model_bytes(precision))
        made = {name: node for node in model.graph.node for name in node.output}
        ops = [n for n in model.graph.node if n.op_type == "MatMul"]
        assert len(ops) == 25 + 12
        assert {made[name].op_type for n in ops for name in n.input} == {"DequantizeLinear"}
    quantised = {n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    softmax = {n.output[0] for n in model.graph.node if n.op_type == "Softmax"}
    behind = [n.output[0] for n in model.graph.node if n.op_type == "Cast" and n.input[0] in softmax]
    assert len(behind) == 6 and set(behind) <= quantised  # softmax itself stays in float32
    said = outcome.bundle.manifest.calibration
    assert said is not None and said["config"]["recipe"] == "attention"
    largest = {name: value for name, value in said["ranges"].items() if name.startswith("softmax")}
    assert len(largest) == 6 and all(0 < value <= 1 for value in largest.values())
    with pytest.raises(ConfigError, match="recipe is 'all'"):
        Config(recipe="all")


def test_the_worst_ops_are_given_back_until_the_gate_holds(
    exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    original = module._Work.judge

    def fails_twice(self: module._Work, precision: str, data: bytes, name: str) -> object:
        verdict = original(self, precision, data, name)
        if name != "choice":
            return verdict
        judged.append(onnx.load_model_from_string(data).graph.node.__len__())
        return verdict if len(judged) > 2 else module.gate.judge(
            precision, self.reference(name), {k: v[:, ::-1] for k, v in self.reference(name).items()},
            self.sets[name].cases, threshold=0.5, limits=self.config.limits,
        )  # fmt: skip

    monkeypatch.setattr(module._Work, "judge", fails_twice)
    outcome = calibrate(copy(exported, tmp_path), sets, Config(sensitivity=2, limits=Limits(0.9, 1.0, 10)))
    assert outcome.given_back == tuple(c.name for c in outcome.costs[:2])
    said = outcome.bundle.manifest.calibration
    assert said is not None and said["ops"]["int8"]["quantised"] == 23
    assert judged == sorted(judged, reverse=True)  # every time fewer Q/DQ


def test_a_range_that_is_not_finite_leaves_the_bundle_as_it_was(
    exported: Bundle, sets: dict[str, SliceSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy(exported, tmp_path)
    before = bundle.digest
    ops = weight_ops(onnx.load_model_from_string(bundle.model_bytes("fp32")))
    monkeypatch.setitem(module.METHODS, "mse", lambda histogram: float("inf"))
    with pytest.raises(VerdictError, match=f"{ops[0].name}: the range of its input is inf"):
        calibrate(bundle, sets, LENIENT)
    assert Bundle.open(bundle.path).digest == before
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_the_command_calibrates_and_prints_the_gates_table(
    exported: Bundle, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy(exported, tmp_path)
    arguments = ["-q", "calibrate", str(bundle.path), "--slices", str(pictures), "--agreement", "0.5"]
    assert main([*arguments, "--delta-auc", "1", "--least-slices", "10"]) == 0
    said = capsys.readouterr().out
    assert "ranges by" in said and "int8-fp16" in said and "passed" in said and "costliest: blocks." in said
    assert main([*arguments, "--delta-auc", "1"]) == 1
    captured = capsys.readouterr()
    assert "slices, 500 are asked" in captured.out
    assert "did not pass the gate, and is not installed" in captured.err


def test_no_calibration_data_are_refused_with_what_to_give(
    exported: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-q", "calibrate", str(exported.path)]) == 2
    assert "nothing to calibrate on; give --slices" in capsys.readouterr().err


def test_int8_answers_like_fp32(outcome: Outcome, sets: dict[str, SliceSet]) -> None:
    work = module._Work(outcome.bundle, sets, LENIENT, module.silent)
    reference = work.reference("verdict")
    found = work.run("int8", outcome.bundle.model_bytes("int8"), sets["verdict"].pixels)
    for name in reference:
        assert np.corrcoef(reference[name].ravel(), found[name].ravel())[0, 1] > 0.99

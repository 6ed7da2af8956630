"""Whole builds: child process, verdict, self-test, installation; with stand-ins."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import MODEL_FILES, Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.errors import (
    BuildError,
    BuildKilled,
    BundleError,
    ConfigError,
    DigestMismatch,
    DtvitError,
    MissingDependency,
    VerdictError,
)
from dtvit_edge.trt import backend, build
from dtvit_edge.trt.build import BuildOptions, build_engine
from dtvit_edge.trt.store import ENGINES, load_engine
from tests.support import golden_backend, trt_standins
from tests.support.golden_backend import prove_backend
from tests.support.tiny_bundle import edit_manifest

ORIN = Gpu("Orin", "8.7", integrated=True, driver="12.6")
PACKAGE = """
import sys
from dtvit_edge.cuda import driver
from tests.support import trt_standins
driver.find = lambda ordinal: {gpu!r} and driver.Gpu(*{gpu!r}, ordinal)
sys.modules[__name__] = trt_standins.make({version!r}, behaviour={behaviour!r})
"""


@pytest.fixture
def bundle(typed_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(typed_bundle.path, tmp_path / "b.dtvit"))


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Any:
    """Make this machine one with a TensorRT and an Orin, whose engines can be run."""
    (tmp_path / "lib").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setattr(backend, "unavailable", lambda flavour: None)
    monkeypatch.setattr(backend, "open_serialized", golden_backend.open_serialized)
    monkeypatch.setattr(golden_backend, "bundle", bundle)
    monkeypatch.setattr(golden_backend, "opened", [])
    monkeypatch.setattr(golden_backend, "sizes", set())
    monkeypatch.setattr(golden_backend, "devices", [])

    def install(version: str, behaviour: str = "honest", gpu: Gpu | None = ORIN) -> None:
        fields = (gpu.name, gpu.sm, gpu.integrated, gpu.driver) if gpu else None
        source = PACKAGE.format(version=version, behaviour=behaviour, gpu=fields)
        (tmp_path / "lib" / "tensorrt.py").write_text(source)

    return install


def left(bundle: Bundle) -> list[str]:
    return sorted(p.name for p in (bundle.path / ENGINES).iterdir()) if (bundle.path / ENGINES).exists() else []


@pytest.mark.parametrize(
    ("version", "precision", "graph_key"),
    [("8.6.1", "fp16", "fp32"), ("8.6.1", "int8", "int8"), ("10.3.0", "fp16", "fp16"), ("11.4.1", "int8", "int8-fp16")],
)
def test_a_device_proves_and_installs_its_engine(
    bundle: Bundle, device: Any, version: str, precision: str, graph_key: str
) -> None:
    device(version)
    record = build_engine(bundle, BuildOptions(precision, backend="tensorrt", max_batch=7), prove_backend)
    plan = trt_standins.PLAN + version.encode()
    key = "int8-fp16" if precision == "int8" else precision
    assert golden_backend.opened == [("tensorrt", plan, key, 7)]
    assert golden_backend.sizes == {1, 7}, "more than there are golden slices"
    assert record.selftest is not None
    assert record.selftest["deviations"] == {"1": 0.0, "7": 0.0}
    assert (record.graph, record.gpu, record.capabilities) == (graph_key, "Orin", ("8.7",))
    assert record.machine["cuda_driver"] == "12.6"
    assert record.layer_precisions[precision] > 0
    assert load_engine(bundle, "tensorrt", version, ORIN, precision).plan == plan
    assert Bundle.open(bundle.path).digest == bundle.digest, "building leaves the manifest alone"
    assert {name.rsplit(".", 1)[1] for name in left(bundle)} == {"json", "plan", "timing"}


def test_the_command_says_that_the_engine_is_proved(
    bundle: Bundle, device: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    device("8.6.1")
    assert main(["build", str(bundle.path), "--precision", "int8", "--no-library-tactics"]) == 0
    said = capsys.readouterr()
    assert "passed: 0.00e+00 at batch 1 and 8, allowed 0.2" in said.out
    assert "INT8, FP16, PROFILE_SHARING_0806, TF32 off" in " ".join(said.out.split())
    assert "building int8 from model.int8.onnx with TensorRT 8.6.1, on Orin (SM 8.7)" in said.err


def test_without_a_precision_each_that_passed_its_gate_is_built(
    bundle: Bundle, device: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    device("10.3.0")
    said = [
        {"precision": p, "verdict": v} for p, v in (("fp16", "passed"), ("int8", "failed"), ("int8-fp16", "passed"))
    ]
    for verdicts, built in ((said[:2], ["fp16"]), (said, ["fp16", "int8"]), ([], ["fp32"])):
        edit_manifest(bundle.path, calibration={"verdicts": verdicts})
        assert main(["build", str(bundle.path), "--json"]) == 0
        assert [record["precision"] for record in json.loads(capsys.readouterr().out)] == built


def test_a_thin_copy_builds_from_what_it_has_and_names_what_it_lacks(bundle: Bundle, device: Any) -> None:
    device("10.3.0")
    for precision in ("fp32", "fp32-op16", "int8", "int8-fp16"):
        (bundle.path / MODEL_FILES[precision]).unlink()
    thin = Bundle.open(bundle.path)
    assert build_engine(thin, BuildOptions("fp16"), prove_backend).graph == "fp16"
    with pytest.raises(BundleError, match=r"model\.int8-fp16\.onnx: not in this copy of the bundle"):
        build_engine(thin, BuildOptions("int8"), prove_backend)
    assert len(left(bundle)) == 3


def test_building_again_uses_the_timing_cache_and_replaces_the_engine(bundle: Bundle, device: Any) -> None:
    device("10.3.0")
    first = build_engine(bundle, BuildOptions("fp16"), prove_backend)
    files = left(bundle)
    second = build_engine(bundle, BuildOptions("fp16", max_batch=2), prove_backend)
    assert len(left(bundle)) == len(files) == 3
    assert (first.max_batch, second.max_batch) == (8, 2)
    assert second.log == ()
    (cache,) = (bundle.path / ENGINES).glob("tensorrt-10.3.0-orin-sm87.*.timing")
    assert cache.read_bytes() == b"measured, measured, "


def test_too_little_memory_is_said_before_the_build(
    bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device("10.3.0")
    monkeypatch.setattr(build, "available_memory", lambda: 1 << 27)
    build_engine(bundle, BuildOptions("fp16"), prove_backend)
    assert "128 MiB of memory are free" in caplog.text


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        ("kill", BuildKilled, "SIGKILL"),
        ("abort", BuildKilled, "SIGABRT"),
        ("raise", BuildError, "something that no release documents"),
        ("refuse", BuildError, "Could not find any implementation"),
        ("fp32", VerdictError, "fp16 was asked for, but the engine's layers are"),
    ],
)
def test_a_build_that_fails_leaves_nothing_in_the_bundle(
    bundle: Bundle, device: Any, behaviour: str, kind: type[DtvitError], message: str
) -> None:
    device("8.6.1", behaviour)
    with pytest.raises(kind, match=message):
        build_engine(bundle, BuildOptions("fp16", backend="tensorrt"), prove_backend)
    assert not (bundle.path / ENGINES).exists()


def test_a_failure_leaves_the_engine_that_is_there(bundle: Bundle, device: Any) -> None:
    device("8.6.1")
    build_engine(bundle, BuildOptions("fp16"), prove_backend)
    files = left(bundle)
    device("8.6.1", "kill")
    with pytest.raises(BuildKilled):
        build_engine(bundle, BuildOptions("fp16"), prove_backend)
    assert left(bundle) == files
    assert load_engine(bundle, "tensorrt", "8.6.1", ORIN, "fp16").record.selftest


@pytest.mark.parametrize("behaviour", ["foreign", "names"])
def test_layers_that_do_not_show_their_precision_are_a_warning(bundle: Bundle, device: Any, behaviour: str) -> None:
    device("8.6.1", behaviour)
    (warning,) = build_engine(bundle, BuildOptions("fp16"), prove_backend).warnings
    assert "fused regions do not show" in warning


@pytest.mark.parametrize("error", [0.06, float("nan")])
def test_an_engine_that_disagrees_is_not_installed(
    bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    device("10.3.0")
    monkeypatch.setattr(golden_backend, "error", error)
    with pytest.raises(VerdictError, match=r"differs from the golden logits by .* at batch 1.* it is not installed"):
        build_engine(bundle, BuildOptions("fp16"), prove_backend)
    assert not (bundle.path / ENGINES).exists()


PARITY = {"max_abs_difference": {"1": 0.003, "8": 0.004}, "slices": 5, "tolerance": 0.05}


@pytest.mark.parametrize(
    ("precision", "error", "refused"),
    [("fp16", 0.0, True), ("int8", 0.0, True), ("fp16", 0.001, False), ("fp32", 0.0, False)],
)
def test_an_engine_that_answers_as_exactly_as_fp32_is_not_of_a_lower_precision(
    bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch, precision: str, error: float, refused: bool
) -> None:
    device("10.3.0")
    monkeypatch.setattr(golden_backend, "error", error)
    edit_manifest(bundle.path, parity={"fp16": PARITY})
    bundle = Bundle.open(bundle.path)
    monkeypatch.setattr(golden_backend, "bundle", bundle)
    if not refused:
        assert build_engine(bundle, BuildOptions(precision), prove_backend).selftest
        return
    with pytest.raises(
        VerdictError, match=rf"{precision} was asked for, and at batch 1, 8 .*computes in fp32; it is not"
    ):
        build_engine(bundle, BuildOptions(precision), prove_backend)
    assert not (bundle.path / ENGINES).exists()


def test_each_precision_has_its_own_tolerance(bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device("10.3.0")
    monkeypatch.setattr(golden_backend, "error", 0.06)
    record = build_engine(bundle, BuildOptions("int8"), prove_backend)
    assert record.selftest is not None
    assert (record.selftest["precision"], record.selftest["tolerance"]) == ("int8-fp16", 0.2)


def test_an_engine_that_cannot_be_tested_here_is_not_built(
    bundle: Bundle, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device("10.3.0", "kill")
    monkeypatch.setattr(backend, "unavailable", lambda flavour: "pycuda is not installed")
    with pytest.raises(MissingDependency, match=r"pycuda is not installed: .* not tested"):
        build_engine(bundle, BuildOptions("fp16"), prove_backend)
    assert not (bundle.path / ENGINES).exists()


def test_what_this_machine_or_bundle_lacks_is_said_before_anything_is_built(bundle: Bundle, device: Any) -> None:
    device("10.3.0", "kill", gpu=None)
    with pytest.raises(BuildError, match="no GPU that CUDA can use"):
        build_engine(bundle, BuildOptions("fp16", backend="tensorrt"), prove_backend)
    device("11.4.1", "kill")
    with pytest.raises(ConfigError, match=r"TensorRT 11\.4\.1 has no cuBLAS and cuDNN"):
        build_engine(bundle, BuildOptions("fp16", library_tactics=False), prove_backend)
    with pytest.raises(ConfigError, match="only TensorRT for RTX compiles ahead of time"):
        build_engine(bundle, BuildOptions("fp16", backend="tensorrt", ahead_of_time=True), prove_backend)
    device("8.5.3.1", "kill")
    with pytest.raises(BuildError, match=r"int8 needs 8\.6"):
        build_engine(bundle, BuildOptions("int8", backend="tensorrt"), prove_backend)


def test_a_graph_whose_bytes_changed_after_opening_never_reaches_the_parser(bundle: Bundle, device: Any) -> None:
    device("10.3.0", "kill")
    path = bundle.path / MODEL_FILES["fp16"]
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DigestMismatch):
        build_engine(bundle, BuildOptions("fp16"), prove_backend)


def test_a_manifest_without_a_tolerance_is_refused(bundle: Bundle, device: Any) -> None:
    device("10.3.0", "kill")
    edit_manifest(bundle.path, tolerances={"bf16": 0.05})
    with pytest.raises(BundleError, match="no tolerance for fp16"):
        build_engine(Bundle.open(bundle.path), BuildOptions("fp16"), prove_backend)


def test_what_killed_builds_left_is_swept_and_what_runs_is_not(bundle: Bundle, device: Any) -> None:
    device("10.3.0")
    (bundle.path / ENGINES / ".999999999.abc.part").mkdir(parents=True)
    (bundle.path / ENGINES / f".{os.getppid()}.abc.part").mkdir()
    build_engine(bundle, BuildOptions("fp16"), prove_backend)
    assert [name for name in left(bundle) if name.endswith(".part")] == [f".{os.getppid()}.abc.part"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16"}, "there are fp32, fp16, int8"),
        ({"max_batch": 0}, "at least 1"),
        ({"capabilities": ("8.6",)}, "goes with --ahead-of-time"),
        ({"ahead_of_time": True, "capabilities": ("7.5", "8.6")}, r"SM 7\.5 is compiled alone"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BuildOptions(**{"precision": "fp16"} | options)


def test_device_and_optimization_level_go_to_the_builder_and_into_the_record(bundle: Bundle, device: Any) -> None:
    device("8.6.1")
    record = build_engine(
        bundle, BuildOptions("fp16", "tensorrt", builder_optimization_level=5, device=1), prove_backend
    )
    assert (record.gpu, record.cuda_ordinal, record.optimization_level) == ("Orin", 1, 5)
    assert record.profiles == ({"min": 1, "opt": 1, "max": 1}, {"min": 1, "opt": 8, "max": 8})
    assert golden_backend.devices == [1], "tested where it was built"
    device("8.5.3.1")
    with pytest.raises(ConfigError, match=r"TensorRT 8\.5\.3\.1 has no builder optimization level"):
        build_engine(bundle, BuildOptions("fp32", "tensorrt", builder_optimization_level=1), prove_backend)
    for wrong in ({"builder_optimization_level": 6}, {"device": -1}, {"device": 0, "ahead_of_time": True}):
        with pytest.raises(ConfigError, match=r"--(builder-optimization-level|device) is"):
            BuildOptions("fp32", **wrong)  # type: ignore[arg-type]


def test_an_inspector_that_cannot_be_read_is_a_warning_and_the_build_stays_good(bundle: Bundle, device: Any) -> None:
    device("10.3.0", "broken")
    record = build_engine(bundle, BuildOptions("fp16", "tensorrt"), prove_backend)
    assert record.selftest is not None and record.layers_from == "not readable"
    assert any("could not be read back" in warning for warning in record.warnings)
    assert any("cannot be read" in line for line in record.log)


def test_a_library_that_cannot_initialise_cuda_is_an_error_in_words(bundle: Bundle, device: Any) -> None:
    device("10.3.0", "no cuda")
    with pytest.raises(BuildError, match="makes no builder; most often CUDA cannot be initialised"):
        build_engine(bundle, BuildOptions("fp32", "tensorrt"), prove_backend)


def test_golden_logits_tell_slices_apart(bundle: Bundle) -> None:
    logits = bundle.golden().logits
    assert min(float(np.std(values, axis=0).min()) for values in logits.values()) > 0.1

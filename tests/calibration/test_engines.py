"""The demo model's files as calibration leaves them, through TensorRT for RTX's own parser and builder, with no GPU."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import numpy as np
import pytest

from calibration.calibrate import Config, calibrate
from calibration.quantizable import RECIPES
from dtvit_edge.bundle import Bundle
from dtvit_edge.trt.build import BuildOptions, build_engine
from evaluation.gate import SliceLabels
from evaluation.limits import Limits
from evaluation.sampling import SETS, SliceSet
from export.bundle_export import export_bundle
from tests.support.data import ROOT
from tests.support.golden_backend import prove_backend

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed (pip install tensorrt-rtx-cu13)"
)
LENIENT = Limits(agreement=0.0, auc=1.0, slices=1, difference=1.0, shift_slices=0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(ROOT / "export/demo/demo.safetensors", tmp_path_factory.mktemp("demo") / "demo.dtvit")


@pytest.fixture(scope="module", params=RECIPES)
def calibrated(
    coarse_entropy: None, request: pytest.FixtureRequest, demo: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The demo bundle with int8 from its golden slices: their number is no matter to a builder."""
    bundle = Bundle.open(shutil.copytree(demo.path, tmp_path_factory.mktemp(request.param) / "demo.dtvit"))
    pixels = bundle.golden().pixels
    names = tuple(map(str, range(len(pixels))))
    sets = dict.fromkeys(SETS, SliceSet(pixels, SliceLabels(names, names, np.full(len(names), -1))))
    return calibrate(bundle, sets, Config(recipe=request.param, sensitivity_slices=1, limits=LENIENT)).bundle


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8"])
def test_the_demo_model_compiles_in_every_precision(calibrated: Bundle, precision: str) -> None:
    record = build_engine(
        calibrated, BuildOptions(precision, backend="tensorrt-rtx", ahead_of_time=True), prove_backend
    )
    assert record.capabilities == (("8.9", "12.0") if precision == "fp8" else ("8.6", "8.9", "12.0"))
    assert record.selftest is None
    assert record.graph == {"int8": "int8-fp16"}.get(precision, precision)
    expected = {"fp32": {"fp32"}, "fp16": {"fp16", "fp32"}, "int8": {"int8", "fp16", "fp32"}}
    expected["fp8"] = {"fp8", "fp16", "fp32"}
    assert set(record.layer_precisions) == expected[precision]
    if precision == "int8":
        int8_layers = [layer for layer in record.layers if layer["kind"] == "gemm" and layer["precision"] == "int8"]
        assert len(int8_layers) >= 25 - 6  # fused qkv it computes in fp16, and the build says so
        assert any("given int8 and compute in fp16" in warning for warning in record.warnings)
    else:
        assert record.warnings == ()
    if precision == "fp8":
        products = [layer for layer in record.layers if layer["kind"] == "gemm" and layer["precision"] == "fp8"]
        assert len(products) >= 25  # q, k and v too

"""The calls that a build makes, against stand-ins that have what each release has; real builds are in test_build.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda import driver
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.errors import BuildError, DigestMismatch
from dtvit_edge.spec import INPUT_NAME, digest_bytes
from dtvit_edge.trt import builder, layers
from dtvit_edge.trt.builder import BuildJob, BuildResult, Log
from dtvit_edge.trt.releases import TENSORRT, Release
from tests.support import trt_standins
from tests.support.trt_standins import VERSIONS, called
from tests.support.typed_graphs import graph

ORIN = Gpu("Orin", "8.7", integrated=True)


def job(folder: Path, data: bytes, precision: str, **options: Any) -> BuildJob:
    (folder / "model.onnx").write_bytes(data)
    files = {"onnx": str(folder / "model.onnx"), "onnx_sha256": digest_bytes(data), "plan": str(folder / "engine.plan")}
    return BuildJob(precision, channels=1, side=224, **{"max_batch": 8} | files | options)


def run(trt: Any, folder: Path, precision: str, **options: Any) -> BuildResult:
    release = Release(TENSORRT, trt.__version__)
    data = graph(release.graph_for(precision))
    return builder.build(trt, release, job(folder, data, precision, **options), ORIN, Log())


def enabled(trt: Any) -> set[str]:
    return {name for name, value in vars(trt.BuilderFlag).items() if value in trt.config.enabled}


CASES = [(version, precision) for version in VERSIONS for precision in ("fp32", "fp16", "int8")]
CASES.remove(("8.5.3.1", "int8"))


@pytest.mark.parametrize(("version", "precision"), CASES)
def test_every_release_builds_every_precision_with_what_it_has(version: str, precision: str, tmp_path: Path) -> None:
    trt = trt_standins.make(version)
    built = run(trt, tmp_path, precision)
    assert (tmp_path / "engine.plan").read_bytes() == trt_standins.PLAN + version.encode()
    assert built.plan_sha256 == digest_bytes((tmp_path / "engine.plan").read_bytes())
    weak = version.startswith("8")
    flags = {"fp32": [], "fp16": ["FP16"], "int8": ["INT8", "FP16"]}[precision] if weak else []
    pinned = ["OBEY_PRECISION_CONSTRAINTS"] if flags and version == "8.5.3.1" else []
    assert enabled(trt) == {*flags, *pinned}, "TF32 is off as well"
    creation = {"8": ["EXPLICIT_BATCH"], "10": ["STRONGLY_TYPED"], "11": []}[version.split(".")[0]]
    assert built.flags[: len(creation)] == creation
    sharing = version.startswith("8.6")
    assert ("PROFILE_SHARING_0806" in built.flags) == sharing, "always so from 10 on, and 8.5 has none"
    assert len(called(trt, "set_preview_feature")) == sharing
    assert called(trt, "create_network") == [{"8": 1, "10": 2, "11": 0}[version.split(".")[0]]]
    profiles = [(1, 1, 1), (1, 8, 8), *([] if version != "8.5.3.1" else [(1, 8, 8)])]
    assert called(trt, "set_shape") == [(INPUT_NAME, *((n, 1, 224, 224) for n in batches)) for batches in profiles]
    assert [tuple(profile.values()) for profile in built.profiles] == profiles
    assert len(called(trt, "add_optimization_profile")) == len(profiles)
    assert built.optimization_level == (None if version == "8.5.3.1" else 3)
    counts = layers.count(layers.Layer(**layer) for layer in built.layers)
    assert precision in counts
    assert built.layers_from == "engine inspector"
    assert layers.check_precision(precision, [layers.Layer(**layer) for layer in built.layers]) == []
    assert getattr(trt.runtime, "engine_host_code_allowed", False) is False


def test_where_layernorm_has_parts_they_softmax_and_the_last_layers_stay_fp32(tmp_path: Path) -> None:
    trt = trt_standins.make("8.5.3.1")
    built = run(trt, tmp_path, "fp16")
    names = {f"node_layer_norm_{part}" for part in "mean centred square variance deviation".split()}
    last = {f"{head}_logits_gemm{part}" for head in ("ich", "location") for part in ("", "_matrix")}
    assert names | {"node_softmax"} | last <= set(built.fp32_layers)
    products = ("query", "mixed", "embedding", "residual")
    assert not any(product in name for name in built.fp32_layers for product in products)
    for layer in trt.network.layers:
        assert (layer.precision == trt.DataType.FLOAT) == (layer.name in built.fp32_layers)
        assert all(
            (tensor.forced == trt.DataType.FLOAT) == (layer.name in built.fp32_layers)
            for tensor in map(layer.get_output, range(layer.num_outputs))
        )


@pytest.mark.parametrize(
    ("version", "precision"),
    [("8.6.1", "fp32"), ("8.6.1", "fp16"), ("8.6.1", "int8"), ("10.3.0", "fp16"), ("11.4.1", "int8")],
)
def test_nothing_is_pinned_where_layernorm_is_a_layer(version: str, precision: str, tmp_path: Path) -> None:
    assert run(trt_standins.make(version), tmp_path, precision).fp32_layers == []


def test_the_real_exports_normalisations_are_all_pinned(small_bundle: Bundle, tmp_path: Path) -> None:
    release, trt = Release(TENSORRT, "8.5.3.1"), trt_standins.make("8.5.3.1")
    data = small_bundle.model_bytes(release.graph_for("fp16"))
    built = builder.build(trt, release, job(tmp_path, data, "fp16"), ORIN, Log())
    norms = small_bundle.manifest.models["fp32"].facts["operators"]["LayerNormalization"]
    assert sum("layer_norm" in name for name in built.fp32_layers) == 9 * norms
    assert sum("softmax" in name for name in built.fp32_layers) == 6
    assert len(built.fp32_layers) == 9 * norms + 6 + 4, "a product and a sum for each head"


def int8_constants(trt: Any) -> tuple[list[Any], list[Any]]:
    """What stands before each DequantizeLinear of weights: int8 constants, and layers that quantise."""
    layers = trt.network.layers
    maker = {layer.get_output(0).name: layer for layer in layers if layer.num_outputs}
    before = [maker.get(x.get_input(0).name) for x in layers if x.type == trt.LayerType.DEQUANTIZE]
    constants = [x for x in before if x and x.type == trt.LayerType.CONSTANT]
    return constants, [x for x in before if x and x.type == trt.LayerType.QUANTIZE and "(Unnamed" in x.name]


def test_below_10_int8_weights_are_floats_that_quantise_to_the_same_integers(tmp_path: Path) -> None:
    trt = trt_standins.make("10.3.0")
    run(trt, tmp_path, "int8")
    given, added = int8_constants(trt)
    assert given and not added, "TensorRT 10 reads int8 constants"
    trt = trt_standins.make("8.6.1")
    run(trt, tmp_path, "int8")
    constants, quantised = int8_constants(trt)
    assert not constants and len(quantised) == len(given)
    maker = {layer.get_output(0).name: layer for layer in trt.network.layers if layer.num_outputs}
    for layer, integers in zip(quantised, given, strict=True):
        floats, scale = (maker[layer.get_input(index).name] for index in (0, 1))
        axis, shape = layer.axis, integers.known["shape"]
        scales = scale.known["weights"]
        scales = (
            scales.reshape([-1 if place == axis else 1 for place in range(len(shape))]) if scales.size > 1 else scales
        )
        assert floats.weights.dtype == np.float32
        assert np.array_equal(np.rint(floats.weights / scales).reshape(-1), integers.known["weights"])


def test_the_workspace_comes_from_free_memory_or_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "available_memory", lambda: 1 << 30)
    trt = trt_standins.make("10.3.0")
    assert run(trt, tmp_path, "fp16").workspace == 1 << 29
    assert run(trt, tmp_path, "fp16", workspace=5 << 20).workspace == 5 << 20
    pool = trt.MemoryPoolType.WORKSPACE
    assert called(trt, "set_memory_pool_limit") == [(pool, 1 << 29), (pool, 5 << 20)]


def test_a_largest_batch_of_one_has_one_profile(tmp_path: Path) -> None:
    assert run(trt_standins.make("8.5.3.1"), tmp_path, "fp32", max_batch=1).profiles == [{"min": 1, "opt": 1, "max": 1}]


def test_cublas_and_cudnn_are_left_out_on_request(tmp_path: Path) -> None:
    trt = trt_standins.make("8.6.1")
    run(trt, tmp_path, "fp32")
    assert called(trt, "set_tactic_sources") == []
    run(trt, tmp_path, "fp32", library_tactics=False)
    kept = 1 << trt.TacticSource.JIT_CONVOLUTIONS | 1 << trt.TacticSource.EDGE_MASK_CONVOLUTIONS
    assert called(trt, "set_tactic_sources") == [kept]


@pytest.mark.parametrize(
    ("content", "digest", "begun_with", "warning"),
    [
        (b"", "", [b""], ""),
        (b"before, ", digest_bytes(b"before, "), [b"before, "], ""),
        (b"before, ", "0" * 64, [b""], "digest"),
        (b"of another release", digest_bytes(b"of another release"), [b"of another release", b""], "refused"),
    ],
    ids=["none", "kept", "damaged", "foreign"],
)
def test_the_timing_cache_is_kept_and_a_bad_one_made_anew(
    content: bytes, digest: str, begun_with: list[bytes], warning: str, tmp_path: Path
) -> None:
    (tmp_path / "old.timing").write_bytes(content)
    trt = trt_standins.make("8.6.1")
    cache = str(tmp_path / "old.timing") if content else None
    built = run(trt, tmp_path, "fp32", cache=cache, cache_sha256=digest, new_cache=str(tmp_path / "new.timing"))
    assert called(trt, "create_timing_cache") == begun_with
    assert (tmp_path / "new.timing").read_bytes() == begun_with[-1] + b"measured, "
    assert warning in " ".join(built.log)


def test_what_is_wrong_with_a_timing_cache_is_no_reason_for_a_build_that_fails(tmp_path: Path) -> None:
    (tmp_path / "old.timing").write_bytes(b"of another release")
    cache = {"cache": str(tmp_path / "old.timing"), "cache_sha256": digest_bytes(b"of another release")}
    with pytest.raises(BuildError, match=r"builds no engine: 10: Could not find any implementation") as error:
        run(trt_standins.make("8.6.1", behaviour="refuse"), tmp_path, "fp32", **cache)
    assert "timing cache" not in str(error.value)


def test_no_parser_sees_bytes_that_are_not_the_manifests(tmp_path: Path) -> None:
    trt = trt_standins.make("10.3.0")
    with pytest.raises(DigestMismatch):
        run(trt, tmp_path, "fp32", onnx_sha256="0" * 64)
    assert called(trt, "parse") == []


@pytest.mark.parametrize("version", ["8.5.3.1", "10.3.0"])
def test_the_parsers_refusal_names_the_node(version: str, tmp_path: Path) -> None:
    trt = trt_standins.make(version)
    data = graph("fp32").replace(b"Transpose", b"BitwiseOr")
    with pytest.raises(BuildError) as error:
        builder.build(trt, Release(TENSORRT, version), job(tmp_path, data, "fp32"), ORIN, Log())
    assert "BitwiseOr" in str(error.value) and "rows" in str(error.value)
    assert not (tmp_path / "engine.plan").exists()


def test_another_graphs_outputs_are_refused(tmp_path: Path) -> None:
    data = graph("fp32").replace(b"location_logits", b"location_answer")
    with pytest.raises(BuildError, match="location_answer"):
        trt = trt_standins.make("10.3.0")
        builder.build(trt, Release(TENSORRT, "10.3.0"), job(tmp_path, data, "fp32"), ORIN, Log())


def test_a_builder_that_gives_nothing_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"builds no engine: .*implementation for node node_query"):
        run(trt_standins.make("11.4.1", behaviour="refuse"), tmp_path, "fp32")


def test_the_stand_in_for_11_has_nothing_that_the_real_interface_of_11_lacks() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX, whose interface is TensorRT 11's, is not installed")
    real_names = (
        "import json, tensorrt_rtx as t; e = 'BuilderFlag TacticSource LayerType MemoryPoolType ProfilingVerbosity '\n"
        "e = (e + 'LayerInformationFormat PreviewFeature').split(); print(json.dumps({n: dir(getattr(t, n)) for n in e}"
        " | {'config': dir(t.IBuilderConfig), 'module': dir(t)}))"
    )
    done = subprocess.run([sys.executable, "-c", real_names], capture_output=True, text=True, check=True)
    real = json.loads(done.stdout)
    trt = trt_standins.make("11.4.1")
    for name, values in vars(trt).items():
        assert name in real["module"] or name in ("calls", "behaviour")
        if name in real:
            assert set(vars(values)) - {"OTHER"} <= set(real[name]), name
    config = trt.Builder(None).create_builder_config()
    names = {n for n in dir(config) if not n.startswith("_")} - {"cache", "enabled"}
    assert names <= set(real["config"])

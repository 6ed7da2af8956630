"""Whole builds with TensorRT for RTX, which compiles with no GPU."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.errors import BuildError, EngineError
from dtvit_edge.spec import INPUT_NAME, digest_bytes
from dtvit_edge.trt.build import BuildOptions, build_engine
from dtvit_edge.trt.int8_weights import quantise_float_weights
from dtvit_edge.trt.store import ENGINES, load_engine
from tests.support.engine_records import ORIN
from tests.support.golden_backend import prove_backend
from tests.support.tiny_bundle import edit_manifest
from tests.support.typed_graphs import graph

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed (pip install tensorrt-rtx-cu13)"
)


@pytest.fixture
def bundle(typed_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(typed_bundle.path, tmp_path / "b.dtvit"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8"])
def test_rtx_compiles_each_precision_with_no_gpu(bundle: Bundle, precision: str) -> None:
    record = build_engine(bundle, BuildOptions(precision, backend="tensorrt-rtx", ahead_of_time=True), prove_backend)
    assert record.capabilities == (("8.9", "12.0") if precision == "fp8" else ("8.6", "8.9", "12.0"))
    assert (record.gpu, record.selftest) == (None, None)
    assert "no GPU" in record.selftest_reason
    assert record.layers_from == "builder's log"
    counts = record.layer_precisions
    assert set(counts) == {"fp32": {"fp32"}, "fp16": {"fp16", "fp32"}, "int8": {"int8", "fp16", "fp32"},
                           "fp8": {"fp8", "fp16", "fp32"}}[precision]  # fmt: skip
    products = [layer for layer in record.layers if layer["kind"] == "gemm"]
    # The profile of batch 1 has attention as two products of activations, which no int8 graph quantises.
    attention = [layer for layer in products if layer["name"].startswith(("node_scores", "node_mixed"))]
    assert {layer["precision"] for layer in attention} <= {"fp16" if precision in ("int8", "fp8") else precision}
    weights = {layer["precision"] for layer in products if layer not in attention}
    assert weights == {precision, "fp32"}, "the heads' last layers stay fp32"
    assert any("[profile 1]" in layer["name"] for layer in products), "both profiles are read back"
    assert record.warnings == ()
    ada = Gpu("NVIDIA GeForce RTX 4070", "8.9")
    plan = load_engine(bundle, "tensorrt-rtx", record.version, ada, precision, unproven=True).plan
    assert len(plan) == record.plan_bytes > 500_000
    with pytest.raises(EngineError, match=r"built for SM .*8\.9, 12\.0, this GPU is SM 8\.7"):
        load_engine(bundle, "tensorrt-rtx", record.version, ORIN, precision, unproven=True)
    with pytest.raises(EngineError, match="no self-test"):
        load_engine(bundle, "tensorrt-rtx", record.version, ada, precision)
    assert Bundle.open(bundle.path).digest == bundle.digest


def test_fp8_is_not_compiled_for_gpus_that_have_none(bundle: Bundle) -> None:
    options = BuildOptions("fp8", "tensorrt-rtx", ahead_of_time=True, capabilities=("8.6", "8.9"))
    with pytest.raises(BuildError, match=r"SM 8\.6 has no FP8; SM 8\.9 and newer have"):
        build_engine(bundle, options, prove_backend)
    assert not (bundle.path / ENGINES).exists()


def test_rtx_compiles_what_export_wrote(small_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(small_bundle.path, tmp_path / "small.dtvit"))
    for precision in sorted({"fp32", "fp16"} & set(bundle.manifest.models)):
        options = BuildOptions(
            precision, backend="tensorrt-rtx", ahead_of_time=True, capabilities=("8.6",), max_batch=3
        )
        record = build_engine(bundle, options, prove_backend)
        assert record.capabilities == ("8.6",)
        assert record.profiles == ({"min": 1, "opt": 1, "max": 1}, {"min": 1, "opt": 3, "max": 3})
        assert record.optimization_level == 3
        assert record.layer_precisions[precision] == max(record.layer_precisions.values())


def test_rtx_refuses_a_graph_and_names_the_node(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    _replace_graph(bundle, graph("fp32").replace(b"Transpose", b"BitwiseOr"))
    options = ["--precision", "fp32", "--backend", "tensorrt-rtx", "--ahead-of-time"]
    assert main(["-q", "build", str(bundle.path), *options]) == 2
    said = capsys.readouterr().err
    assert "does not read this graph: BitwiseOr 'node_rows'" in said
    assert not (bundle.path / ENGINES).exists()


def test_rtx_refuses_an_architecture_that_it_does_not_know(bundle: Bundle) -> None:
    with pytest.raises(BuildError, match="not for SM53"):
        build_engine(
            bundle, BuildOptions("fp32", "tensorrt-rtx", ahead_of_time=True, capabilities=("5.3",)), prove_backend
        )


def test_the_command_says_what_was_built_and_that_it_is_not_proved(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-q", "build", str(bundle.path), "--precision", "fp16", "--backend", "tensorrt-rtx", "--ahead-of-time"]
    assert main([*command, "--sm", "8.9", "--max-batch", "2", "--workspace", "256"]) == 0
    said = capsys.readouterr().out
    assert "NONE: compiled ahead of time" in said
    assert "SM 8.9" in said and "1 to 2" in said
    assert main([*command, "--json", "--expect-digest", bundle.digest]) == 0
    assert json.loads(capsys.readouterr().out)["selftest"] is None
    assert main(["-q", "build", str(bundle.path), "--precision", "fp16", "--backend", "tensorrt-rtx"]) == 2
    assert "--ahead-of-time compiles without one" in capsys.readouterr().err
    assert main([*command, "--sm", "sm89"]) == 2


def _replace_graph(bundle: Bundle, data: bytes) -> None:
    """Another fp32 graph, and a manifest that names it."""
    old = bundle.manifest.models["fp32"]
    (bundle.path / old.file).write_bytes(data)
    models = json.loads(bundle.manifest.to_json())["models"]
    models["fp32"]["sha256"] = digest_bytes(data)
    edit_manifest(bundle.path, models=models)


def test_a_real_network_takes_float_weights_in_the_place_of_int8_ones() -> None:
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph("int8"))

    class Older:
        """The same network with the arguments of TensorRT 8.6, which knows one type to quantise to."""

        def __getattr__(self, name: str) -> Any:
            return getattr(network, name)

        def add_quantize(self, tensor: Any, scale: Any) -> Any:
            return network.add_quantize(tensor, scale, trt.DataType.INT8)

    def count(kind: str) -> int:
        return sum(network.get_layer(i).type == getattr(trt.LayerType, kind) for i in range(network.num_layers))

    quantised, dequantised = count("QUANTIZE"), count("DEQUANTIZE")
    kept = quantise_float_weights(trt, Older())
    assert len(kept) == dequantised - quantised > 0, "one for each product's weights"
    assert count("QUANTIZE") == dequantised == count("DEQUANTIZE")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(INPUT_NAME, *[(batch, 1, 224, 224) for batch in (1, 2, 2)])
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    assert builder.build_serialized_network(network, config)


def test_a_mask_over_empty_patches_leaves_attention_fused(trimmed_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(trimmed_bundle.path, tmp_path / "trimmed.dtvit"))
    options = BuildOptions("fp16", backend="tensorrt-rtx", ahead_of_time=True, capabilities=("8.9",))
    record = build_engine(bundle, options, prove_backend)
    fused = [layer["name"] for layer in record.layers if layer["name"].startswith("_gemm_mha")]
    assert len(fused) == 2 * len(record.profiles), "in both blocks, in each profile"

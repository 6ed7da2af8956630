from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.measure.configurations import Configuration, find_configurations
from benchmarks.settings import FULL, QUICK, Effort, Settings
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle, FileRecord
from dtvit_edge.errors import ConfigError, MissingDependency
from tests.support.bench_runs import TINY

needs_openvino = pytest.mark.skipif(backends.availability()["openvino"] is not None, reason="openvino is not installed")


def test_every_backend_is_a_configuration_or_named_as_absent(tiny_bundle: Bundle) -> None:
    configurations, left_out = find_configurations(tiny_bundle, Settings(effort=TINY))
    for name, why_not in backends.availability().items():
        assert (name in left_out) == (why_not is not None)
        if why_not is None and not backends.runs_engines(name):
            assert f"{name} fp32" in [configuration.name for configuration in configurations]
            assert left_out[f"{name} int8"] == "the bundle has no int8"


@pytest.mark.parametrize("effort", [QUICK, FULL], ids=["quick", "full"])
def test_the_other_spelling_of_fp32_is_left_out_unless_it_is_asked_for(tiny_bundle: Bundle, effort: Effort) -> None:
    models = tiny_bundle.manifest.models | {"fp32-op16": FileRecord("x", "", 0)}
    bundle = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, models=models))
    settings = Settings(effort=effort, backends=("onnxruntime",))
    assert "--precision fp32-op16 asks for it" in find_configurations(bundle, settings)[1]["onnxruntime fp32-op16"]
    asked = find_configurations(bundle, replace(settings, precisions=("fp32-op16",)))[0]
    assert [configuration.name for configuration in asked] == ["onnxruntime fp32-op16"]


@needs_openvino
def test_a_hint_is_another_configuration_where_the_backend_has_it(tiny_bundle: Bundle) -> None:
    configurations, _ = find_configurations(
        tiny_bundle, Settings(effort=TINY, hints=("bf16",), backends=("openvino", "onnxruntime"))
    )
    assert [configuration.name for configuration in configurations] == [
        "openvino fp32",
        "openvino fp32, rest bf16",
        "onnxruntime fp32",
    ]


def test_a_configuration_names_the_bytes_that_it_runs(tiny_bundle: Bundle) -> None:
    configuration = Configuration(tiny_bundle, "onnxruntime", "fp32")
    assert configuration.sha256 == tiny_bundle.manifest.models["fp32"].sha256
    assert Configuration(tiny_bundle, "tensorrt", "fp32").sha256 is None
    assert (
        configuration.options(3).threads == 3
        and Configuration(tiny_bundle, "tensorrt", "fp32").options(3).threads is None
    )


def test_what_nothing_here_has_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no backend called abacus"):
        find_configurations(tiny_bundle, Settings(backends=("abacus",)))
    with pytest.raises((ConfigError, MissingDependency), match="nothing to measure"):
        find_configurations(tiny_bundle, Settings(backends=("onnxruntime",), precisions=("int8",)))


def test_where_no_backend_runs_what_is_asked_for_the_refusal_names_what_each_runs(tiny_bundle: Bundle) -> None:
    settings = Settings(backends=("onnxruntime",), precisions=("fp16",))
    with pytest.raises(
        ConfigError, match="nothing to measure: onnxruntime: it runs fp32, fp32-op16, int8, fp32-trimmed"
    ):
        find_configurations(tiny_bundle, settings)

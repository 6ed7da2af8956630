"""Every CPU backend through the same cases."""

from __future__ import annotations

import os
import threading
import time
from functools import partial

import numpy as np
import pytest

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import BundleError, ConfigError, MissingDependency
from tests.support.tiny_bundle import tiny_model


@pytest.fixture(params=[name for name in backends.NAMES if not backends.runs_engines(name)])
def name(request: pytest.FixtureRequest) -> str:
    why_not = backends.availability()[request.param]
    if why_not:
        pytest.skip(why_not)
    return str(request.param)


@pytest.mark.parametrize("batch", [1, 3, 8, 2])
def test_logits_match_the_golden_ones(tiny_bundle: Bundle, name: str, batch: int) -> None:
    pixels, golden = tiny_bundle.golden().pixels, tiny_bundle.golden().logits
    with backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp32", threads=1) as backend:
        logits = backend.infer(pixels[:batch])
        for output, expected in golden.items():
            assert logits[output].dtype == np.float32
            np.testing.assert_allclose(logits[output], expected[:batch], atol=1e-5, rtol=0)


def test_results_survive_the_next_call(tiny_bundle: Bundle, name: str) -> None:
    pixels = tiny_bundle.golden().pixels
    with backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp32") as backend:
        first = backend.infer(pixels[:2])
        kept = {k: v.copy() for k, v in first.items()}
        backend.infer(pixels[2:4] // 2)
        for output in kept:
            np.testing.assert_array_equal(first[output], kept[output])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say where a thread may run")
@pytest.mark.parametrize("threads", [1, None])
def test_a_backend_keeps_to_no_core_while_it_works(tiny_bundle: Bundle, name: str, threads: int | None) -> None:
    """Where each process pins its thread to the first core, two runs on a machine share that core."""
    pixels = np.repeat(tiny_bundle.golden().pixels[:1], 64, axis=0)
    ends, calls = threading.Event(), 0
    seen: set[frozenset[int]] = set()

    def work() -> None:
        nonlocal calls
        with backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp32", threads=threads) as backend:
            while not ends.is_set():
                backend.infer(pixels)
                calls += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while calls < 20 and worker.is_alive():
            time.sleep(0.001)
            if calls:  # while a model is opened, its thread may look at cores one by one
                seen.add(frozenset(os.sched_getaffinity(worker.native_id or 0)))
    finally:
        ends.set()
        worker.join()
    assert seen == {frozenset(os.sched_getaffinity(0))}


def test_a_backend_says_what_it_is(tiny_bundle: Bundle, name: str) -> None:
    with backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp32", threads=1) as backend:
        facts = backend.describe()
    assert facts["backend"] == name
    assert facts["version"][0].isdigit()
    assert facts["threads"] == "1"
    if name == "openvino":
        assert facts["precision_hint"] == "f32"


def test_openvino_really_runs_in_f32(tiny_bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    from dtvit_edge.backends.openvino import OpenVinoBackend

    backend = OpenVinoBackend(partial(tiny_bundle.model_bytes, "fp32"))
    with backend:
        compiled = backend._request.get_compiled_model()
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def test_a_hint_is_taken_by_openvino_and_refused_elsewhere(tiny_bundle: Bundle) -> None:
    load = partial(tiny_bundle.model_bytes, "fp32")
    with pytest.raises(ConfigError, match="onnxruntime has no precision hint 'bf16'; it has: none"):
        backends.create("onnxruntime", load, "fp32", hint="bf16")
    pytest.importorskip("openvino")
    with backends.create("openvino", load, "fp32", hint="bf16") as backend:
        assert backend.describe()["precision_hint"] == "bf16"


def test_a_float16_graph_is_no_work_for_a_cpu(tiny_bundle: Bundle, name: str) -> None:
    assert "int8" in backends.precisions(name)
    with pytest.raises(ConfigError, match="runs fp32, fp32-op16, int8, fp32-trimmed, int8-trimmed, not 'fp16'"):
        backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp16")


@pytest.mark.parametrize("content", [b"", b"not onnx", tiny_model()[:200]], ids=["empty", "rubbish", "cut"])
def test_what_is_no_model_is_refused_in_words(name: str, content: bytes) -> None:
    with (
        pytest.raises(BundleError, match="refuses the fp32 model"),
        backends.create(name, lambda: content, "fp32"),
    ):
        pass


def test_another_graphs_names_are_refused(name: str) -> None:
    renamed = tiny_model().replace(b"ich_logits", b"xch_logits")
    with pytest.raises(BundleError, match="xch_logits"), backends.create(name, lambda: renamed, "fp32"):
        pass


def test_auto_takes_the_first_that_is_there_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "availability", lambda: dict.fromkeys(backends.NAMES))
    assert backends.choose().name == "tensorrt"
    absent = {name: f"{name} is not installed" for name in backends.NAMES[:-1]}
    monkeypatch.setattr(backends, "availability", lambda: absent | {"onnxruntime": None})
    choice = backends.choose()
    assert choice.name == "onnxruntime"
    for why_not in absent.values():
        assert why_not in choice.why


def test_none_at_all_and_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no backend called 'cuda'"):
        backends.choose("cuda")
    monkeypatch.setattr(backends, "availability", lambda: dict.fromkeys(backends.NAMES, "absent"))
    with pytest.raises(MissingDependency, match="pip install onnxruntime"):
        backends.choose()


def test_asking_for_one_that_is_missing_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dtvit_edge.backends import openvino

    monkeypatch.setattr(openvino, "unavailable", lambda: "openvino is not installed")
    with pytest.raises(MissingDependency, match=r"pip install '\.\[intel\]'"):
        backends.choose("openvino")


def test_a_callers_mistake_is_no_fault_of_the_device(tiny_bundle: Bundle, name: str) -> None:
    backend = backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp32")
    pixels = tiny_bundle.golden().pixels
    with pytest.raises(ConfigError, match=f"the {name} backend is not open"):
        backend.infer(pixels)
    with backend:
        for wrong in (pixels.astype(np.float32), pixels[:, :, :-1], pixels[0], pixels[:0]):
            with pytest.raises(ConfigError, match="the model takes slices of"):
                backend.infer(wrong)
        backend.infer(pixels[:1])
    with pytest.raises(ConfigError, match="is not open"):
        backend.infer(pixels)


def test_the_number_of_a_gpu_is_not_for_the_cpu(tiny_bundle: Bundle, name: str) -> None:
    with pytest.raises(ConfigError, match="runs on the CPU"):
        backends.create(name, partial(tiny_bundle.model_bytes, "fp32"), "fp32", device=0)

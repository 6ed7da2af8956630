"""Engines on the stand-in GPU: what is checked when one is opened, and what one call does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cuda import device as cuda_device
from dtvit_edge.errors import BundleError, ConfigError, DeviceFault, EngineError
from dtvit_edge.scoring.api import Options, open_backend
from dtvit_edge.trt import backend, library
from tests.support.cuda.fixtures import install_engine
from tests.support.tiny_bundle import tiny_model

MakeGpu = Callable[..., Any]


class Serialized:
    max_batch, proven = 4, True

    def __init__(self, plan: bytes) -> None:
        self.plan = plan


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_any_number_of_slices_goes_in_the_profiles_batches(bundle: Bundle, make_gpu: MakeGpu, integrated: bool) -> None:
    gpu = make_gpu(integrated=integrated)
    install_engine(bundle, max_batch=3)
    pixels, golden = bundle.golden().pixels, bundle.golden().logits
    with open_backend(bundle, "tensorrt", Options()) as backend:
        for count in (1, 3, len(pixels)):
            logits = backend.infer(pixels[:count])
            for name, expected in golden.items():
                np.testing.assert_allclose(logits[name], expected[:count], atol=1e-5)
        described = backend.describe()
    expected = {"backend": "tensorrt", "version": "10.3.0", "device": "Orin", "max_batch": "3"}
    assert described.items() >= expected.items()
    assert gpu.launched.count("engine") >= 4


def test_results_survive_the_next_call(bundle: Bundle, make_gpu: MakeGpu) -> None:
    make_gpu()
    install_engine(bundle)
    pixels = bundle.golden().pixels
    with open_backend(bundle, "tensorrt", Options()) as backend:
        first = backend.infer(pixels[:2])
        kept = {name: logits.copy() for name, logits in first.items()}
        backend.infer(pixels[2:4] // 2)
    for name, logits in kept.items():
        np.testing.assert_array_equal(first[name], logits)


def test_what_is_no_engine_of_ours_is_refused_in_words(make_gpu: MakeGpu) -> None:
    make_gpu()
    for plan, error, words in (
        (b"rubbish", EngineError, r"TensorRT 10\.3\.0 does not take the engine: .*stdVersionRead"),
        (tiny_model().replace(b"pixels", b"pixelz"), BundleError, "pixelz"),
    ):
        with pytest.raises(error, match=words), backend.open_serialized("tensorrt", Serialized(plan), "fp32"):  # type: ignore[arg-type]
            pass


def test_slices_of_another_shape_are_refused(bundle: Bundle, make_gpu: MakeGpu) -> None:
    make_gpu()
    install_engine(bundle)
    with (
        open_backend(bundle, "tensorrt", Options()) as backend,
        pytest.raises(ConfigError, match=r"takes slices of \(1, 224, 224\) as uint8.* of shape \(1, 3, 224, 224\)"),
    ):
        backend.infer(np.zeros((1, 3, 224, 224), np.uint8))


def test_a_faulted_device_answers_nothing_more_and_closes(bundle: Bundle, make_gpu: MakeGpu) -> None:
    gpu = make_gpu()
    install_engine(bundle)
    pixels = bundle.golden().pixels
    with open_backend(bundle, "tensorrt", Options()) as backend:
        gpu.sticky = "unspecified launch failure"
        for _ in range(2):
            with pytest.raises(DeviceFault, match="unspecified launch failure"):
                backend.infer(pixels[:1])


def test_threads_and_hints_are_a_cpus(bundle: Bundle, make_gpu: MakeGpu) -> None:
    make_gpu()
    install_engine(bundle)
    with pytest.raises(ConfigError, match="--threads is for CPU backends; tensorrt runs on the GPU"):
        open_backend(bundle, "tensorrt", Options(threads=2))
    with pytest.raises(ConfigError, match="tensorrt has no precision hint 'bf16'"):
        open_backend(bundle, "tensorrt", Options(hint="bf16"))


def test_no_engine_for_this_device_says_what_builds_one(bundle: Bundle, make_gpu: MakeGpu) -> None:
    make_gpu()
    with (
        pytest.raises(EngineError, match=r"no fp32 engine for TensorRT .*dtvit-edge build .* --precision fp32"),
        open_backend(bundle, "tensorrt", Options()),
    ):
        pass


def test_verify_runs_the_engines_that_are_there(
    bundle: Bundle, make_gpu: MakeGpu, capsys: pytest.CaptureFixture[str]
) -> None:
    make_gpu()
    install_engine(bundle, max_batch=2)
    assert main(["verify", str(bundle.path), "--backend", "tensorrt", "--threads", "1"]) == 0
    assert "tensorrt 10.3.0" in capsys.readouterr().out


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "unavailable", lambda flavour: f"{flavour} is not installed")
    assert backends.availability()["tensorrt-rtx"] == "tensorrt-rtx is not installed"
    monkeypatch.setattr(library, "unavailable", lambda flavour: None)
    monkeypatch.setattr(cuda_device, "find_spec", lambda name: None)
    assert backends.availability()["tensorrt"] == "pycuda is not installed"
    monkeypatch.setattr(cuda_device, "unavailable", lambda: None)
    monkeypatch.setattr(backend, "find", lambda: None)
    assert backends.availability()["tensorrt"] == "no GPU that CUDA can use is here"

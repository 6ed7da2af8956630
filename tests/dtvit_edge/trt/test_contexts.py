"""Execution contexts on every release: shapes that come in any order, profiles, graphs, a profiler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import EngineError
from dtvit_edge.scoring.api import Options, open_backend
from dtvit_edge.trt import backend as trt_backend
from tests.support.cuda import tensorrt
from tests.support.cuda.fixtures import install_engine

MakeGpu = Callable[..., Any]
RELEASES = [("8.5.3.1", "tensorrt"), ("8.6.1", "tensorrt"), ("9.3.0", "tensorrt"), ("10.0.1", "tensorrt")]
RELEASES += [("10.3.0", "tensorrt"), ("11.4.1", "tensorrt"), ("1.7.1.116", "tensorrt-rtx")]
every_release = pytest.mark.parametrize(("version", "flavour"), RELEASES, ids=[f"{f} {v}" for v, f in RELEASES])


class Golden:
    """Golden slices over and over, each call with others."""

    def __init__(self, bundle: Bundle) -> None:
        with open_backend(bundle, "onnxruntime", Options()) as cpu:
            self.pixels = bundle.golden().pixels
            self.logits = cpu.infer(self.pixels)
        self.start = 0

    def check(self, backend: Backend, count: int) -> None:
        self.start += 1
        rows = np.arange(self.start, self.start + count) % len(self.pixels)
        answer = backend.infer(np.ascontiguousarray(self.pixels[rows]))
        for name, logits in self.logits.items():
            np.testing.assert_allclose(answer[name], logits[rows], atol=1e-5, err_msg=f"batch {count}")


@every_release
def test_sizes_in_any_order_answer_right_each_on_its_profile(
    bundle: Bundle, make_gpu: MakeGpu, version: str, flavour: str
) -> None:
    gpu = make_gpu(version=version, rtx=flavour == "tensorrt-rtx")
    install_engine(bundle, max_batch=8, version=version, flavour=flavour)
    golden = Golden(bundle)
    with open_backend(bundle, flavour, Options()) as backend:
        for count in (8, 1, 7, 8, 2) * 4:
            golden.check(backend, count)
    other = 2 if version.startswith("8.5") else 1
    ran = {line for line in gpu.launched if line.startswith("profile")}
    assert ran == {"profile 0, batch 1", "profile 1, batch 8", f"profile {other}, batch 7", f"profile {other}, batch 2"}
    graphs = 0 if flavour == "tensorrt-rtx" else (8 - 2) + (4 - 2)
    assert gpu.launched.count("graph") == graphs, "batches of 8 and 1, from their third on"


@every_release
@pytest.mark.parametrize("max_batch", [1, 2, 3])
def test_small_engines_have_the_contexts_that_they_need(
    bundle: Bundle, make_gpu: MakeGpu, version: str, flavour: str, max_batch: int
) -> None:
    gpu = make_gpu(version=version, rtx=flavour == "tensorrt-rtx")
    install_engine(bundle, max_batch=max_batch, version=version, flavour=flavour)
    golden = Golden(bundle)
    with open_backend(bundle, flavour, Options()) as backend:
        assert gpu.objects["execution context"] == max_batch
        assert backend.device_bytes() > tensorrt.ACTIVATIONS  # type: ignore[attr-defined]
        for count in (max_batch, 1, max_batch, 5):  # 5: in parts
            golden.check(backend, count)


@every_release
def test_layers_are_timed_on_the_batch_s_own_profile_and_the_engine_goes_on(
    bundle: Bundle, make_gpu: MakeGpu, version: str, flavour: str
) -> None:
    gpu = make_gpu(version=version, rtx=flavour == "tensorrt-rtx")
    install_engine(bundle, max_batch=8, version=version, flavour=flavour)
    golden = Golden(bundle)
    with open_backend(bundle, flavour, Options()) as backend:
        for count, profile in ((1, 0), (8, 1), (3, 2 if version.startswith("8.5") else 1)):
            golden.check(backend, count)
            gpu.launched.clear()
            layers = backend.layers(np.resize(golden.pixels, (count, *golden.pixels.shape[1:])))  # type: ignore[attr-defined]
            assert layers == {"whole": pytest.approx(2 * tensorrt.LAYER_MS)}
            assert {line for line in gpu.launched if line.startswith("profile")} == {
                f"profile {profile}, batch {count}"
            }
            for _ in range(4):
                golden.check(backend, count)
                golden.check(backend, 1)


def test_a_profile_that_belongs_to_another_context_is_no_fault_of_the_device(bundle: Bundle, make_gpu: MakeGpu) -> None:
    gpu = make_gpu(version="8.5.3.1")

    class Serialized:
        plan, max_batch, proven = tensorrt.plan(bundle.model_bytes("fp32"), 8), 8, True

    opened = trt_backend.open_serialized("tensorrt", Serialized(), "fp32")
    with (
        pytest.raises(EngineError, match="refuses optimization profile 1: Profile 1 has been chosen by another"),
        opened,
    ):
        pass
    assert not opened.device.broken and gpu.left() == {}


def test_profiles_that_the_record_does_not_know_are_refused(bundle: Bundle, make_gpu: MakeGpu) -> None:
    make_gpu()

    class Serialized:
        plan, max_batch, proven = tensorrt.plan(bundle.model_bytes("fp32"), 4), 8, True

    with (
        pytest.raises(EngineError, match="profiles are for batches 1 to 1, 1 to 4; expected 1 alone and 1 to 8"),
        trt_backend.open_serialized("tensorrt", Serialized(), "fp32"),
    ):
        pass


def test_a_shape_that_is_refused_is_no_fault_of_the_device(
    bundle: Bundle, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gpu()
    install_engine(bundle, max_batch=8)
    golden, real = Golden(bundle), tensorrt._Context.set_input_shape
    monkeypatch.setattr(
        tensorrt._Context, "set_input_shape", lambda self, name, shape: shape[0] != 5 and real(self, name, shape)
    )
    with open_backend(bundle, "tensorrt", Options()) as backend:
        with pytest.raises(EngineError, match="refuses a batch of 5"):
            backend.infer(np.resize(golden.pixels, (5, *golden.pixels.shape[1:])))
        golden.check(backend, 4)


def test_a_refused_capture_is_remembered_by_batch_size_and_said_once(
    bundle: Bundle, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dtvit_edge")
    gpu = make_gpu()
    gpu.refuses_capture = True
    install_engine(bundle, max_batch=4)
    golden = Golden(bundle)
    with open_backend(bundle, "tensorrt", Options()) as backend:
        for _ in range(4):
            golden.check(backend, 4)
        gpu.refuses_capture = False
        for _ in range(4):
            golden.check(backend, 4)
            golden.check(backend, 1)
    assert caplog.text.count("no CUDA graph for batches of 4") == caplog.text.count("no CUDA graph") == 1
    assert gpu.launched.count("graph") == 2, "batches of 1"


def test_the_real_interface_of_rtx_has_what_is_asked_of_it() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    assert {"create_runtime_config", "create_execution_context", "device_memory_size_v2"} <= set(dir(rtx.ICudaEngine))
    assert {"set_execution_context_allocation_strategy", "cuda_graph_strategy"} <= set(dir(rtx.IRuntimeConfig))
    assert {"DISABLED", "WHOLE_GRAPH_CAPTURE"} <= set(dir(rtx.CudaGraphStrategy))
    assert hasattr(rtx.ExecutionContextAllocationStrategy, "USER_MANAGED")
    asked = {"set_device_memory", "set_optimization_profile_async", "set_input_shape", "set_tensor_address", "profiler"}
    assert asked <= set(dir(rtx.IExecutionContext))
    assert {"get_tensor_profile_shape", "num_optimization_profiles"} <= set(dir(rtx.ICudaEngine))
    assert "builder_optimization_level" in dir(rtx.IBuilderConfig)

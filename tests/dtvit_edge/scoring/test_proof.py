"""The proof of the whole chain finds what a proof of the engine alone cannot see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.preprocess.cpu import CpuPreprocessor, PreparedSlice
from dtvit_edge.preprocess.cuda import CudaPreprocessor, Launches
from dtvit_edge.scoring import executor
from dtvit_edge.scoring.api import Options, open_backend, open_executor
from dtvit_edge.scoring.proof import order, prove_chain, selftest_chain
from dtvit_edge.selftest import selftest
from tests.support.cuda.fixtures import install_engine

MakeGpu = Callable[..., Any]
GPU = Options(backend="tensorrt")


def test_sizes_are_interleaved() -> None:
    assert order(8) == (8, 1, 7, 8)
    assert order(1) == (1, 1, 1, 1)


def test_the_cpu_chain_is_proved_from_stored_pixels(tiny_bundle: Bundle) -> None:
    with open_backend(tiny_bundle, "onnxruntime", Options()) as backend:
        result = selftest_chain(tiny_bundle, backend)
    assert result.passed and result.differing_bytes == 0
    assert list(result.chain) == [f"round 1: batch {n} as number {i + 1}" for i, n in enumerate((8, 1, 7, 8))]


def test_one_byte_that_preprocessing_makes_otherwise_is_found(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OffByOne(CpuPreprocessor):
        def __call__(self, *arguments: Any, **options: Any) -> PreparedSlice:
            prepared = super().__call__(*arguments, **options)
            prepared.pixels[0, 100, 100] ^= 1
            return prepared

    monkeypatch.setattr(executor, "CpuPreprocessor", OffByOne)
    with open_backend(tiny_bundle, "onnxruntime", Options()) as backend:
        assert selftest(tiny_bundle, backend).passed  # from prepared bytes nothing is to be seen
        with pytest.raises(VerdictError, match=r"preprocessing on this device differs .* in 9 bytes"):
            prove_chain(tiny_bundle, backend, (1,))


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_the_gpu_chain_is_proved_launch_by_launch_and_as_graphs(
    bundle: Bundle, make_gpu: MakeGpu, integrated: bool
) -> None:
    gpu = make_gpu(integrated=integrated)
    install_engine(bundle, max_batch=8)
    with open_backend(bundle, "tensorrt", GPU) as backend:
        result = selftest_chain(bundle, backend, (1, 8))
        assert result.passed and result.differing_bytes == 0
        assert len(result.chain) == 12 and "graph" in gpu.launched
    assert not gpu.left()


def test_a_kernel_that_writes_other_bytes_is_found_though_the_engine_is_right(
    bundle: Bundle, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = make_gpu()
    install_engine(bundle, max_batch=8)
    launch = CudaPreprocessor.launch

    def wrong(self: CudaPreprocessor, launches: Launches) -> None:
        launch(self, launches)
        out = int(launches.arguments["out"])
        self.stream.add("wrong", lambda: gpu.view(out, 1).__setitem__(slice(None), np.uint8(77)))

    monkeypatch.setattr(CudaPreprocessor, "launch", wrong)
    with open_backend(bundle, "tensorrt", GPU) as backend:
        assert selftest(bundle, backend, (1, 8)).passed
        with pytest.raises(VerdictError, match="preprocessing on this device differs"):
            prove_chain(bundle, backend, (1, 8))


def test_an_engine_that_was_never_proved_answers_nothing_before_its_chain_is(
    bundle: Bundle, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gpu()
    install_engine(bundle, max_batch=8, proven=False)
    monkeypatch.setattr(CudaPreprocessor, "launch", lambda self, launches: None)
    with (
        open_backend(bundle, "tensorrt", GPU) as backend,
        pytest.raises(VerdictError, match="preprocessing on this device"),
        open_executor(bundle, backend, GPU),
    ):
        pass

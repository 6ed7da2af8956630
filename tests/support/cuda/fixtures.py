"""The stand-in GPU in place of this machine's."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda import device as cuda_device
from dtvit_edge.cuda import graphs as cuda_graphs
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.preprocess import compiled
from dtvit_edge.spec import digest_bytes
from dtvit_edge.trt import backend, library
from tests.support.cuda import device, graphs, harness, tensorrt
from tests.support.engine_records import ORIN, put, record

COMPILER = shutil.which("g++") or shutil.which("c++")
VERSION = "10.3.0"


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("no C++ compiler here (g++)")
    return harness.compile_for_cpu(COMPILER, tmp_path_factory.mktemp("kernel"))


@pytest.fixture
def make_gpu(kernel_library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., device.Gpu]]:
    """Give this machine a GPU; at the end nothing of it may be held any more, unless it has failed."""
    made: list[device.Gpu] = []

    def make(**options: Any) -> device.Gpu:
        gpu = device.Gpu(kernel_library, **options)
        pycuda: Any = ModuleType("pycuda")
        pycuda.driver = device.driver(gpu)
        monkeypatch.setitem(sys.modules, "pycuda", pycuda)
        monkeypatch.setitem(sys.modules, "pycuda.driver", pycuda.driver)
        monkeypatch.setitem(sys.modules, "tensorrt", tensorrt.tensorrt(gpu, VERSION))
        monkeypatch.setattr(cuda_graphs, "load_driver", lambda: graphs.graphs(gpu))
        monkeypatch.setattr(backend, "find", lambda: ORIN)
        monkeypatch.setattr(cuda_device, "unavailable", lambda: None)
        monkeypatch.setattr(library, "unavailable", lambda flavour: None if flavour == "tensorrt" else "not here")
        monkeypatch.setattr(compiled, "compiled", lambda sm: b"")
        made.append(gpu)
        return gpu

    yield make
    for gpu in made:
        assert gpu.threads == [], "a context was left current"
        assert gpu.sticky or gpu.leaks() == 0, "memory or graphs were left behind"


def install_engine(bundle: Bundle, max_batch: int = 8, *, proven: bool = True, gpu: Gpu = ORIN) -> None:
    """An engine in the bundle: the stand-in's plan is the fp32 model itself."""
    plan = bundle.model_bytes("fp32")
    changes: dict[str, Any] = {"gpu": gpu.name, "capabilities": (gpu.sm,)}
    changes |= {} if proven else {"selftest": None, "selftest_reason": "ahead of time"}
    profile = {"min": 1, "opt": 1, "max": max_batch}
    put(
        bundle,
        record(bundle, "fp32", plan_sha256=digest_bytes(plan), profile=profile, **changes),
        plan,
    )

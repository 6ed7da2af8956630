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
from dtvit_edge.cuda import driver as cuda_driver
from dtvit_edge.cuda import graphs as cuda_graphs
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.preprocess import compiled
from dtvit_edge.spec import digest_bytes
from dtvit_edge.trt import library
from dtvit_edge.trt.releases import Release, batch_profiles
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

    def make(*, version: str = VERSION, rtx: bool = False, **options: Any) -> device.Gpu:
        gpu = device.Gpu(kernel_library, **options)
        flavour = "tensorrt-rtx" if rtx else "tensorrt"
        pycuda: Any = ModuleType("pycuda")
        pycuda.driver = device.driver(gpu)
        monkeypatch.setitem(sys.modules, "pycuda", pycuda)
        monkeypatch.setitem(sys.modules, "pycuda.driver", pycuda.driver)
        monkeypatch.setitem(sys.modules, library.MODULES[flavour], tensorrt.tensorrt(gpu, version, rtx=rtx))
        for module in (cuda_graphs, cuda_driver):
            monkeypatch.setattr(module, "load_driver", lambda: graphs.graphs(gpu))
        monkeypatch.setattr(cuda_device, "unavailable", lambda: None)
        monkeypatch.setattr(library, "unavailable", lambda name: None if name == flavour else "not here")
        monkeypatch.setattr(compiled, "compiled", lambda sm: b"")
        made.append(gpu)
        return gpu

    yield make
    for gpu in made:
        assert gpu.threads == [], "a context was left current"
        left = gpu.left()
        assert left == {}, f"left behind, or lost where no context was current: {left}"


def install_engine(
    bundle: Bundle,
    max_batch: int = 8,
    *,
    proven: bool = True,
    gpu: Gpu = ORIN,
    version: str = VERSION,
    flavour: str = "tensorrt",
) -> None:
    """An engine in the bundle: the stand-in's plan is the fp32 model itself, with the profiles of the release."""
    profiles = batch_profiles(Release(flavour, version), max_batch)
    plan = tensorrt.plan(bundle.model_bytes("fp32"), max_batch, copies=len(profiles) - 1)
    changes: dict[str, Any] = {"gpu": gpu.name, "capabilities": (gpu.sm,)}
    changes |= {} if proven else {"selftest": None, "selftest_reason": "ahead of time"}
    changes |= {"flavour": flavour, "version": version, "profiles": tuple(profiles)}
    put(bundle, record(bundle, "fp32", plan_sha256=digest_bytes(plan), **changes), plan)

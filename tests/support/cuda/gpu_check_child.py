"""One stage of the GPU's check on the stand-in GPU, as a process of its own; see `test_gpu_check`.

The environment says where the kernel's library lies (`KERNEL_LIBRARY`), and how the stage is to end: `END` is `kill`
(by SIGKILL, after its first record), `hang` (with a process that it has started, whose id goes to `SLEEPER`) or empty.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from benchmarks.gpu_check import child, engines
from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda import device as cuda_device
from dtvit_edge.cuda import driver
from dtvit_edge.cuda import graphs as cuda_graphs
from dtvit_edge.preprocess import compiled, compilers
from dtvit_edge.trt import backend, library
from dtvit_edge.trt.build import BuildOptions
from dtvit_edge.trt.store import BuildRecord, load_engine
from evaluation.records import Record, append
from tests.support.cuda import device, graphs, tensorrt
from tests.support.cuda.fixtures import VERSION, install_engine
from tests.support.engine_records import ORIN

LIMIT = 1 << 26
INSPECTED = '{"Layers": []}'


class FaultingGpu(device.Gpu):
    """Memory that is nobody's breaks the context, as on a GPU."""

    def view(self, address: int, nbytes: int) -> Any:
        try:
            return super().view(address, nbytes)
        except AssertionError:
            self.sticky = "an illegal memory access was encountered"
            raise device.Error(self.sticky) from None


class StandInNvrtc(compilers.Nvrtc):
    def __init__(self) -> None:
        self.identity, self.cuda = "NVRTC of the stand-in", (13, 0)

    def compile(self, source: Path, sm: str) -> bytes:
        return b"machine code"


def stand_in() -> None:
    """Put the stand-ins in place of the libraries, for this process's whole life."""
    gpu = FaultingGpu(ctypes.CDLL(os.environ["KERNEL_LIBRARY"]), limit=LIMIT)
    pycuda: Any = ModuleType("pycuda")
    pycuda.driver = device.driver(gpu)
    trt: Any = tensorrt.tensorrt(gpu, VERSION)
    trt.LayerInformationFormat = SimpleNamespace(JSON="json")
    make_runtime = trt.Runtime

    def runtime(logger: Any) -> Any:
        made = make_runtime(logger)
        deserialize = made.deserialize_cuda_engine

        def inspectable(plan: bytes) -> Any:
            engine = deserialize(plan)
            if engine is not None:
                inspector = SimpleNamespace(get_engine_information=lambda kind: INSPECTED)
                engine.create_engine_inspector = lambda: inspector
            return engine

        made.deserialize_cuda_engine = inspectable
        return made

    trt.Runtime = runtime
    sys.modules |= {"pycuda": pycuda, "pycuda.driver": pycuda.driver, "tensorrt": trt}
    replaced: list[tuple[Any, str, Any]] = [
        (cuda_graphs, "load_driver", lambda: graphs.graphs(gpu)),
        (backend, "find", lambda *ordinal: ORIN),
        (driver, "find", lambda *ordinal: ORIN),
        (driver, "free_bytes", lambda gpu: LIMIT),
        (cuda_device, "unavailable", lambda: None),
        (library, "unavailable", lambda flavour: None if flavour == "tensorrt" else "not here"),
        (compiled, "compiled", lambda sm, **more: b""),
        (compilers, "find_compilers", lambda: [StandInNvrtc()]),
        (engines, "build_engine", build),
    ]
    for module, name, value in replaced:
        setattr(module, name, value)


def build(bundle: Bundle, options: BuildOptions, prove: Any) -> BuildRecord:
    """What `build_engine` would, without a builder."""
    install_engine(bundle, options.max_batch)
    return load_engine(bundle, "tensorrt", VERSION, ORIN, options.precision).record


def ends_early(path: Path, record: Record) -> None:
    """Append a record, then end as `END` says."""
    append(path, record)
    if os.environ.get("END") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """For longer than anybody waits, and so does what it starts."""
    sleeper = subprocess.Popen(["sleep", "3600"])
    Path(os.environ["SLEEPER"]).write_text(str(sleeper.pid), encoding="ascii")
    time.sleep(3600)


if __name__ == "__main__":
    if os.environ.get("END") == "hang":
        hang()
    stand_in()
    child.append = ends_early  # type: ignore[attr-defined]
    raise SystemExit(child.main(*sys.argv[1:]))

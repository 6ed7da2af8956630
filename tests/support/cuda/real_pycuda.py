"""Score a folder with the real pycuda over the driver of `driver.cpp`; a process of its own, see `test_pycuda`."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.driver import find
from dtvit_edge.preprocess import compiled
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.run import run
from dtvit_edge.trt import library
from tests.support.cuda import tensorrt
from tests.support.cuda.fixtures import VERSION, install_engine


class AtOnce:
    """What the engine's stand-in asks of a GPU, where everything happens at once and addresses are the process's."""

    def check(self) -> None:
        pass

    def view(self, address: int, nbytes: int) -> np.ndarray[Any, Any]:
        return np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(address))

    @property
    def streams(self) -> Any:
        class Streams:
            def __getitem__(self, handle: int) -> Any:
                return self

            def add(self, name: str, work: Callable[[], None]) -> None:
                work()

        return Streams()


def main(path: str, folder: str, out: str) -> None:
    """`cpu` and `gpu` below `out`."""
    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)  # the driver has only what is called
    sys.modules["tensorrt"] = tensorrt.tensorrt(AtOnce(), VERSION)  # type: ignore[arg-type]
    library.unavailable = lambda flavour: None
    kernels: Any = compiled  # the stand-in takes what one call needs and no more
    kernels.compiled = lambda sm: b"\0"
    bundle, gpu = Bundle.open(path), find()
    assert gpu is not None and gpu.name == "Stand-in"
    install_engine(bundle, 5, gpu=gpu)
    run(bundle, [Path(folder)], Path(out, "cpu"), Options(backend="onnxruntime"))
    run(bundle, [Path(folder)], Path(out, "gpu"), Options(backend="tensorrt", workers=2))


if __name__ == "__main__":
    main(*sys.argv[1:])

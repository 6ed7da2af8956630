"""Score a folder with the real pycuda over the driver of `driver.cpp`; a process of its own, see `test_pycuda`."""

from __future__ import annotations

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.driver import find, load_driver
from dtvit_edge.preprocess import compiled
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.run import run
from dtvit_edge.trt import library
from tests.support.cuda import tensorrt
from tests.support.cuda.fixtures import VERSION, install_engine


class AtOnce:
    """What the engine's stand-in asks of a GPU, where everything happens at once and addresses are the process's."""

    capturing = False
    sticky = ""

    def __init__(self) -> None:
        self.objects: Counter[str] = Counter()
        self.lost: list[str] = []
        self.launched: list[str] = []

    def check(self) -> None:
        pass

    def born(self, kind: str) -> None:
        self.objects[kind] += 1

    def dies(self, kind: str) -> None:
        self.objects[kind] -= 1

    def view(self, address: int, nbytes: int) -> np.ndarray[Any, Any]:
        return np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(address))

    @property
    def streams(self) -> Any:
        class Streams:
            recorded = None

            def __getitem__(self, handle: int) -> Any:
                return self

            def values(self) -> list[Any]:
                return []

            def add(self, name: str, work: Callable[[], None]) -> None:
                work()

        return Streams()


def main(path: str, folder: str, out: str, device: str) -> None:
    """`cpu` and `gpu` below `out`; nothing may be left on the device."""
    sys.setdlopenflags(os.RTLD_LAZY | os.RTLD_GLOBAL)  # the driver has only what is called
    at_once, ordinal = AtOnce(), int(device)
    sys.modules["tensorrt"] = tensorrt.tensorrt(at_once, VERSION)  # type: ignore[arg-type]
    library.unavailable = lambda flavour: None
    kernels: Any = compiled  # the stand-in takes what one call needs and no more
    kernels.compiled = lambda sm: b"\0"
    bundle, gpu = Bundle.open(path), find(ordinal)
    assert gpu is not None and gpu.name == ("Stand-in", "Second stand-in")[ordinal]
    install_engine(bundle, 5, gpu=gpu)
    run(bundle, [Path(folder)], Path(out, "cpu"), Options(backend="onnxruntime"))
    run(bundle, [Path(folder)], Path(out, "gpu"), Options(backend="tensorrt", workers=2, device=ordinal))
    driver: Any = load_driver()
    assert driver.standin_used_devices() == 1 << ordinal, "another device was touched"
    assert driver.standin_left() == 0, f"{driver.standin_left()} objects are left on the device"
    assert not +at_once.objects and not at_once.lost, (at_once.objects, at_once.lost)


if __name__ == "__main__":
    main(*sys.argv[1:])

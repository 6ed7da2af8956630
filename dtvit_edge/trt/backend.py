"""Engines of TensorRT and TensorRT for RTX through pycuda; the two backends beside this module name the library.

Everything of CUDA happens in the device's owner thread. I/O is bound by name (TensorRT 8.5 and newer).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import ENGINES, Logits, check_pixels, not_open
from dtvit_edge.cuda import device as cuda_device
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.driver import Gpu, find
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.spec import OUTPUT_NAMES, digest_bytes
from dtvit_edge.trt import library
from dtvit_edge.trt.execution import RunningEngine
from dtvit_edge.trt.store import Engine

RUNS = ENGINES
HINTS: tuple[str, ...] = ()
PROFILED = 5

# Given the library's version and the GPU.
EngineLoader = Callable[[str, Gpu], Engine]


def unavailable(flavour: str) -> str | None:
    """Why engines of a library cannot run here, or None; the driver is asked for a GPU, no context is made."""
    why_not = library.unavailable(flavour) or cuda_device.unavailable()
    if why_not is not None:
        return why_not
    try:
        return None if find() else "no GPU that CUDA can use is here"
    except DeviceFault as error:
        return str(error)


def open_serialized(flavour: str, serialized: Engine, precision: str, device: int = 0) -> EngineBackend:
    """A backend for an engine that is not installed yet: the self-test's way to it.

    Args:
        precision: the key of its tolerance in the manifest.
        device: CUDA's number of the GPU.
    """
    return EngineBackend(flavour, lambda version, gpu: serialized, precision, device=device)


class EngineBackend:
    """An engine on the GPU.

    Args:
        flavour: `tensorrt` or `tensorrt-rtx`.
        load: gives the serialised engine for this library and GPU, when the backend is opened; it is not kept.
        precision: of the engine, for results and errors.
        device: CUDA's number of the GPU; None is 0.

    Attributes:
        device: opened with the backend; its owner thread runs everything.
        engine: what the owner thread runs, while the backend is open; proven: it has passed a self-test before.
    """

    batch = 1
    on_gpu = True
    proven = False
    engine: RunningEngine

    def __init__(
        self,
        flavour: str,
        load: EngineLoader,
        precision: str = "fp32",
        *,
        threads: int | None = None,
        device: int | None = None,
    ) -> None:
        if threads is not None:
            raise ConfigError(f"--threads is for CPU backends; {flavour} runs on the GPU")
        self.name = flavour
        self.load = load
        self.precision = precision
        self.device = Device(device or 0)
        self._open = False
        self._described: dict[str, str] = {}

    def __enter__(self) -> EngineBackend:
        trt, release = library.load(self.name)
        gpu = find(self.device.ordinal)
        if gpu is None:
            raise DeviceFault("no GPU that CUDA can use is here any more")
        serialized = self.load(release.text, gpu)
        self.device.__enter__()
        try:
            self.engine = self.device.call(RunningEngine, trt, release, self.device, serialized)
        except BaseException:
            self.device.__exit__(None, None, None)
            raise
        self._open = True
        self.batch, self.proven = self.engine.max_batch, serialized.proven
        self._described = {
            "backend": self.name,
            "version": release.text,
            "device": gpu.name,
            "cuda_ordinal": str(gpu.ordinal),
            "compute_capability": gpu.sm,
            "cuda_driver": gpu.driver,
            "max_batch": str(self.batch),
            "engine": digest_bytes(serialized.plan),
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        try:
            self.device.release(self.engine.free)
        finally:
            del self.engine
            self.device.__exit__(kind, error, trace)

    def describe(self) -> dict[str, str]:
        """Library, version, device, driver and the largest batch."""
        return dict(self._described)

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch of any size, cut to the engine's profiles; see `Backend.infer`."""
        if not self._open:
            raise not_open(self.name)
        check_pixels(pixels, self.engine.slice_shape)
        batches = [pixels[i : i + self.batch] for i in range(0, len(pixels), self.batch)]
        answers = [self.device.call(self.engine.infer, batch) for batch in batches]
        return {name: np.concatenate([logits[name] for logits in answers]) for name in OUTPUT_NAMES}

    def device_bytes(self) -> int:
        """The device memory that the open engine has asked for; see `RunningEngine.device_bytes`."""
        if not self._open:
            raise not_open(self.name)
        return self.device.call(lambda: self.engine.device_bytes)

    def layers(self, pixels: NDArray[np.uint8]) -> dict[str, float]:
        """Mean milliseconds by layer over `PROFILED` calls; slices as for `infer`, `batch` at most."""
        if not self._open:
            raise not_open(self.name)
        return self.device.call(self._layers, pixels)

    def _layers(self, pixels: NDArray[np.uint8]) -> dict[str, float]:
        self.engine.put(pixels)
        self.engine.upload(len(pixels))
        return self.engine.layers_ms(len(pixels), PROFILED)

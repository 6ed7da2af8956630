"""A GPU's primary context, and the one thread that owns it.

pycuda keeps contexts per thread (inducer/pycuda#242, #306): one thread makes, uses and leaves the context, everybody
else asks it with `Device.call`. The primary context is the one that TensorRT finds as well.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, TypeVar

from dtvit_edge.cuda.driver import cuda_version
from dtvit_edge.errors import DeviceFault, MissingDependency, OutOfDeviceMemory

INSTALL = (
    "pip install '.[jetson]' on a Jetson, '.[gpu]' elsewhere (in a checkout; or the wheel's file instead of the dot); "
    "it is built with nvcc on the path"
)
# What CUDA 13's header makes of names without a suffix (cuda.h): pycuda built with it asks the driver for these.
_SINCE_13 = ("cuCtxCreate_v4", "cuEventElapsedTime_v2", "cuMemAdvise_v2", "cuMemPrefetchAsync_v2")
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no order with the default stream, which libraries use

Answer = TypeVar("Answer")


def unavailable() -> str | None:
    """Why no GPU can be opened for want of a package, or None; nothing is imported."""
    return None if find_spec("pycuda") else "pycuda is not installed"


class Device:
    """The first GPU; a context manager. Everything but `call` and the attributes is for the owner thread alone.

    Attributes:
        cuda: the module `pycuda.driver`, from opening on.
        sm: compute capability, "8.7"; integrated: it shares the processor's memory; processors: multiprocessors.
        shared_bytes: of shared memory that a block may ask for.
    """

    cuda: Any
    sm = ""
    integrated = False
    processors = 1
    shared_bytes = 0

    def __init__(self) -> None:
        self._owner: ThreadPoolExecutor | None = None
        self._context: Any = None
        self._fault = ""

    def __enter__(self) -> Device:
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="gpu-owner")
        try:
            self.call(self._open)
        except BaseException:
            self._owner.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._owner is not None
        self._owner.submit(self._close).result()
        self._owner.shutdown()
        self._owner = None

    @property
    def broken(self) -> bool:
        """A fault has poisoned the context: whatever is freed or asked now fails too."""
        return bool(self._fault)

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Run a function in the owner thread and wait for it; from the owner thread itself it is just called.

        Raises:
            OutOfDeviceMemory: an allocation failed; the device can still be used.
            DeviceFault: the device failed, now or before.
        """
        assert self._owner is not None, "the device is not open"
        if self._fault:
            raise DeviceFault(self._fault)
        return self._owner.submit(self._guarded, function, arguments).result()

    def stream(self) -> Any:
        """A new stream, `pycuda.driver.Stream`."""
        return self.cuda.Stream(_NON_BLOCKING)

    def _guarded(self, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
        try:
            return function(*arguments)
        except DeviceFault as error:
            self._note(error)
            raise
        except Exception as error:
            cuda = getattr(self, "cuda", None)
            if cuda is None or not isinstance(error, cuda.Error):
                raise
            fault = (OutOfDeviceMemory if isinstance(error, cuda.MemoryError) else DeviceFault)(f"CUDA: {error}")
            self._note(fault)
            raise fault from error

    def _note(self, fault: DeviceFault) -> None:
        if not isinstance(fault, OutOfDeviceMemory):
            self._fault = str(fault)

    def _open(self) -> None:
        try:
            self.cuda = import_module("pycuda.driver")
        except (ImportError, OSError) as error:
            raise MissingDependency(_why_pycuda_does_not_load(error)) from error
        cuda = self.cuda
        cuda.init()
        device = cuda.Device(0)
        attributes = cuda.device_attribute
        self.sm = "{}.{}".format(*device.compute_capability())
        self.integrated = bool(device.get_attribute(attributes.INTEGRATED))
        self.processors = int(device.get_attribute(attributes.MULTIPROCESSOR_COUNT))
        self.shared_bytes = int(device.get_attribute(attributes.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
        self._context = device.retain_primary_context()
        self._context.push()

    def _close(self) -> None:
        if self._context is None:
            return
        context, self._context = self._context, None
        try:
            self.cuda.Context.pop()
            context.detach()
        except self.cuda.Error:
            if not self._fault:
                raise


def _why_pycuda_does_not_load(error: ImportError | OSError) -> str:
    """In words: most often it was built with a newer CUDA than the driver runs, and asks the driver for new symbols."""
    driver = cuda_version()
    if "undefined symbol" not in str(error) or driver is None:
        return f"pycuda does not load: {error}; {INSTALL}"
    runs = f"{driver[0]}.{driver[1]}"
    built = "CUDA 13.0 or newer" if any(name in str(error) for name in _SINCE_13) else f"a newer CUDA than {runs}"
    return (
        f"pycuda was built with {built}, and this machine's driver runs CUDA up to {runs}: {error}. Build it with "
        f"nvcc {driver[0]} (`nvcc --version` says which is first on the path): PATH=/usr/local/cuda-{runs}/bin:$PATH "
        "pip install --force-reinstall --no-deps --no-cache-dir pycuda; or update the driver"
    )

"""A GPU's primary context, and the one thread that owns it.

pycuda keeps contexts per thread (inducer/pycuda#242, #306): one thread makes, uses and leaves the context, everybody
else asks it with `Device.call`. The primary context is the one that TensorRT finds as well, so that it runs on the GPU
whose context is current here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, TypeVar

from dtvit_edge.cuda.driver import cuda_version
from dtvit_edge.cuda.resources import drop_locals
from dtvit_edge.environment import usable_cores
from dtvit_edge.errors import ConfigError, DeviceFault, MissingDependency, OutOfDeviceMemory

INSTALL = (
    "pip install '.[jetson]' on a Jetson, '.[gpu]' elsewhere (in a checkout; or the wheel's file instead of the dot); "
    "it is built with nvcc on the path"
)
# What CUDA 13's header makes of names without a suffix (cuda.h): pycuda built with it asks the driver for these.
_SINCE_13 = ("cuCtxCreate_v4", "cuEventElapsedTime_v2", "cuMemAdvise_v2", "cuMemPrefetchAsync_v2")
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no order with the default stream, which libraries use
# With fewer cores than this a thread that spins while it waits takes one from the threads that read and decode. The
# smallest Jetson Orin has six.
_CORES_TO_SPIN = 8

Answer = TypeVar("Answer")


def unavailable() -> str | None:
    """Why no GPU can be opened for want of a package, or None; nothing is imported."""
    return None if find_spec("pycuda") else "pycuda is not installed"


class Device:
    """One GPU; a context manager. Everything but `call`, `release` and the attributes is for the owner thread alone.

    pycuda destroys a stream, an event or a module with its last Python reference, and only where the context is
    current; elsewhere it leaks. So that whoever holds one lets go of it in a function given to `call` or `release`.

    Args:
        ordinal: CUDA's number of the GPU, among those that this process is shown.

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

    def __init__(self, ordinal: int = 0) -> None:
        self.ordinal = ordinal
        self._owner: ThreadPoolExecutor | None = None
        self._owner_thread: int | None = None
        self._context: Any = None
        self._fault = ""

    def __enter__(self) -> Device:
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="gpu-owner")
        try:
            self.call(self._open)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release(self._close)
        finally:
            self._leave()

    @property
    def broken(self) -> bool:
        """A fault has poisoned the context: whatever is freed or asked now fails too."""
        return bool(self._fault)

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Run a function in the owner thread and wait for it; from the owner thread itself it is just called.

        Raises:
            ConfigError: the device is not open.
            OutOfDeviceMemory: an allocation failed; the device can still be used.
            DeviceFault: the device failed, now or before.
        """
        if self._owner is not None and self._fault:
            raise DeviceFault(self._fault)
        return self._in_owner(function, arguments)

    def release(self, function: Callable[[], object]) -> None:
        """Run what gives things back in the owner thread, on a broken device too: the references must go there.

        Raises:
            DeviceFault: giving back failed, on a device that was sound before.
        """
        was_broken = self.broken
        try:
            self._in_owner(function, ())
        except DeviceFault:
            if not was_broken:
                raise

    def stream(self) -> Any:
        """A new stream, `pycuda.driver.Stream`."""
        return self.cuda.Stream(_NON_BLOCKING)

    def event(self) -> Any:
        """A new event without a time, `pycuda.driver.Event`; who waits for it sleeps where there are few cores."""
        flags = self.cuda.event_flags
        sleeps = usable_cores() < _CORES_TO_SPIN
        return self.cuda.Event(flags.DISABLE_TIMING | (flags.BLOCKING_SYNC if sleeps else 0))

    def _in_owner(self, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
        if self._owner is None:
            raise ConfigError("the device is not open: use its backend in a with statement")
        if threading.get_ident() == self._owner_thread:
            return self._guarded(function, arguments)  # the executor would wait for itself
        return self._owner.submit(self._guarded, function, arguments).result()

    def _guarded(self, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
        try:
            return function(*arguments)
        except BaseException as error:
            drop_locals(error)  # a stream or a module among them would die in another thread
            if isinstance(error, DeviceFault):
                self._note(error)
            cuda = getattr(self, "cuda", None)
            if cuda is None or not isinstance(error, cuda.Error):
                raise
            raise self._fault_of(error) from error

    def _fault_of(self, error: Exception) -> DeviceFault:
        fault = (OutOfDeviceMemory if isinstance(error, self.cuda.MemoryError) else DeviceFault)(f"CUDA: {error}")
        self._note(fault)
        return fault

    def _note(self, fault: DeviceFault) -> None:
        if not isinstance(fault, OutOfDeviceMemory):
            self._fault = str(fault)

    def _open(self) -> None:
        self._owner_thread = threading.get_ident()
        try:
            self.cuda = import_module("pycuda.driver")
        except (ImportError, OSError) as error:
            raise MissingDependency(_why_pycuda_does_not_load(error)) from error
        cuda = self.cuda
        cuda.init()
        device = cuda.Device(self.ordinal)
        attributes = cuda.device_attribute
        self.sm = "{}.{}".format(*device.compute_capability())
        self.integrated = bool(device.get_attribute(attributes.INTEGRATED))
        self.processors = int(device.get_attribute(attributes.MULTIPROCESSOR_COUNT))
        self.shared_bytes = int(device.get_attribute(attributes.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN))
        context = device.retain_primary_context()
        try:
            context.push()
        except BaseException:
            context.detach()
            raise
        self._context = context

    def _close(self) -> None:
        if self._context is None:
            return
        context, self._context = self._context, None
        try:
            self.cuda.Context.pop()
        finally:
            context.detach()

    def _leave(self) -> None:
        owner, self._owner, self._owner_thread = self._owner, None, None
        if owner is not None:
            owner.shutdown()


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

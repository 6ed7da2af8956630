"""Memory of the device, with or without its counterpart on the host. For the owner thread alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.cuda.device import Device


class DeviceMemory:
    """Bytes that only the device sees.

    Attributes:
        address: of the device; stable until `free`.

    Raises:
        pycuda.driver.MemoryError: there is not so much.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        self.nbytes = nbytes
        self._memory = device.cuda.mem_alloc(nbytes)
        self.address = int(self._memory)

    def free(self) -> None:
        """Give it back."""
        self._memory.free()


class HostMemory:
    """Page-locked bytes of the host: a copy from any other is not asynchronous. A Jetson's GPU reads them as they are.

    Attributes:
        host: (nbytes,) uint8; valid until `free`.
        address: of the device, where it maps them; else 0.

    Raises:
        pycuda.driver.MemoryError: there is not so much.
    """

    def __init__(self, device: Device, nbytes: int, *, mapped: bool = True) -> None:
        self.nbytes = nbytes
        cuda, mapped = device.cuda, mapped and device.integrated
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: NDArray[np.uint8] = cuda.pagelocked_empty((nbytes,), np.uint8, mem_flags=flags)
        self.address = 0
        if mapped:
            try:
                self.address = int(self._allocation.get_device_pointer())
            except BaseException:
                # Here and now: the garbage collector may run in another thread, which does not have the context.
                self._allocation.free()
                raise

    def free(self) -> None:
        """Give it back; nothing may be under way."""
        self._allocation.free()

    @property
    def _allocation(self) -> Any:
        return self.host.base  # pycuda's object; the array is only a view of it


class Buffer:
    """Bytes of the host, page-locked, and the same of the device.

    On a Jetson both can be one, mapped and never copied. Its GPU caches nothing of that: what it reads more than once
    is not to be `mapped`.

    Attributes:
        host: (nbytes,) uint8; valid until `free`.
        address: of the device.

    Raises:
        pycuda.driver.MemoryError: there is not so much.
    """

    def __init__(self, device: Device, nbytes: int, *, mapped: bool = True) -> None:
        self.nbytes = nbytes
        self._cuda = device.cuda
        self._host_memory = HostMemory(device, nbytes, mapped=mapped)
        self.host = self._host_memory.host
        self.address = self._host_memory.address
        self._device_memory: DeviceMemory | None = None
        if not self.address:
            try:
                self._device_memory = DeviceMemory(device, nbytes)
            except BaseException:
                self._host_memory.free()
                raise
            self.address = self._device_memory.address

    def upload(self, stream: Any, nbytes: int, start: int = 0) -> None:
        """Copy so many bytes to the device, in the stream's order."""
        if self._device_memory is not None:
            self._cuda.memcpy_htod_async(self.address + start, self.host[start : start + nbytes], stream)

    def download(self, stream: Any, nbytes: int) -> None:
        """Copy the first bytes from the device, in the stream's order."""
        if self._device_memory is not None:
            self._cuda.memcpy_dtoh_async(self.host[:nbytes], self.address, stream)

    def free(self) -> None:
        """Give both back; nothing may be under way."""
        try:
            if self._device_memory is not None:
                self._device_memory.free()
        finally:
            self._host_memory.free()


Memory = TypeVar("Memory", DeviceMemory, HostMemory, Buffer)


class GrowableMemory(Generic[Memory]):
    """A `DeviceMemory`, `HostMemory` or `Buffer` that is made anew where it is too small.

    Args:
        kind: makes it.
    """

    def __init__(self, device: Device, kind: Callable[[Device, int], Memory]) -> None:
        self._device = device
        self._kind: Callable[[Device, int], Memory] = kind
        self._memory: Memory | None = None

    @property
    def nbytes(self) -> int:
        """What is held now."""
        return 0 if self._memory is None else self._memory.nbytes

    def at_least(self, nbytes: int) -> Memory:
        """The memory; what was in it is lost where it grows, and nothing of it may be in use then.

        Raises:
            pycuda.driver.MemoryError: there is not so much; none is held then.
        """
        if self._memory is None or self.nbytes < nbytes:
            self.free()
            self._memory = self._kind(self._device, nbytes)
        return self._memory

    def free(self) -> None:
        """Give it back."""
        if self._memory is not None:
            memory, self._memory = self._memory, None
            memory.free()

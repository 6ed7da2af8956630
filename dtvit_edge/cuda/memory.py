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


class Buffer:
    """Bytes of the host, page-locked, and the same of the device. On a Jetson both are one: mapped, never copied.

    Attributes:
        host: (nbytes,) uint8; valid until `free`.
        address: of the device.

    Raises:
        pycuda.driver.MemoryError: there is not so much.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        cuda = device.cuda
        self.nbytes = nbytes
        self._cuda = cuda
        flags = cuda.host_alloc_flags.DEVICEMAP if device.integrated else 0
        self.host: NDArray[np.uint8] = cuda.pagelocked_empty((nbytes,), np.uint8, mem_flags=flags)
        self._device_memory: DeviceMemory | None = None
        # Page-locked in both cases: a copy from pageable memory is not asynchronous, and a device can map no other.
        try:
            if device.integrated:
                self.address = int(self._allocation.get_device_pointer())
                return
            self._device_memory = DeviceMemory(device, nbytes)
        except BaseException:
            # Here and now: the garbage collector may run in another thread, which does not have the context.
            self._allocation.free()
            raise
        self.address = self._device_memory.address

    def upload(self, stream: Any, nbytes: int) -> None:
        """Copy the first bytes to the device, in the stream's order."""
        if self._device_memory is not None:
            self._cuda.memcpy_htod_async(self.address, self.host[:nbytes], stream)

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
            self._allocation.free()

    @property
    def _allocation(self) -> Any:
        return self.host.base  # pycuda's object; the array is only a view of it


Memory = TypeVar("Memory", DeviceMemory, Buffer)


class GrowableMemory(Generic[Memory]):
    """A `DeviceMemory` or `Buffer` that is made anew where it is too small.

    Args:
        kind: `DeviceMemory` or `Buffer`.
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

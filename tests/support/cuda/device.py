"""A GPU that is the CPU, and as much of `pycuda.driver` as is used; `graphs` and `tensorrt` beside it run on it too.

Kernels are the real source compiled for the CPU. Streams are as lazy as CUDA allows: nothing in one runs before
somebody waits for it, so that whoever forgets to wait reads garbage. Contexts belong to threads, memory that was given
back is not there any more, and a capture records without running.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from dtvit_edge.preprocess import kernel
from tests.support.cuda.harness import GUARD

GARBAGE = 0xA5
SHARED = 99 * 1024  # of a block on SM 8.6, 8.9 and 12.0
ARGUMENTS = np.dtype(
    [("inputs", "<u8"), ("count", "<i4"), ("stored", "<u8"), ("tables", "<u8"), ("axes", "<u8"), ("spec", kernel.SPEC),
     ("pad", "<u4", (0,)), ("scratch", kernel.SCRATCH), ("out", "<u8"), ("stats", "<u8")], align=True
)  # fmt: skip


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class Gpu:
    """The state behind the modules that stand in for the libraries.

    Attributes:
        limit: bytes of device memory; sticky: raised by whatever runs next, and everything after it.
        launched: what ran, in order; refuses_capture: as some engines do.
    """

    def __init__(self, library: ctypes.CDLL, *, integrated: bool = False, limit: int = 1 << 40) -> None:
        self.library = library
        self.integrated = integrated
        self.limit = limit
        self.sticky = ""
        self.refuses_capture = False
        self.live: dict[int, np.ndarray[Any, Any]] = {}
        self.device_bytes = 0
        self.launched: list[str] = []
        self.streams: dict[int, Stream] = {}
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.threads: list[threading.Thread] = []

    def check(self) -> None:
        assert threading.current_thread() in self.threads, "no context is current in this thread"
        if self.sticky:
            raise Error(self.sticky)

    def run(self, name: str, work: Callable[[], None]) -> None:
        if self.sticky:
            raise Error(self.sticky)
        self.launched.append(name)
        work()

    def view(self, address: int, nbytes: int) -> np.ndarray[Any, Any]:
        """Bytes at an address, of memory that is there."""
        for start, memory in self.live.items():
            if start <= address and address + nbytes <= start + memory.nbytes:
                return memory[address - start :][:nbytes]
        raise AssertionError(f"{nbytes} bytes at {address:#x} are nobody's")

    def allocate(self, nbytes: int) -> int:
        memory = np.full(nbytes + GUARD, GARBAGE, np.uint8)
        self.live[memory.ctypes.data] = memory
        return int(memory.ctypes.data)

    def free(self, address: int) -> None:
        memory = self.live.pop(address)
        assert (memory[-GUARD:] == GARBAGE).all(), "written behind a buffer"
        memory[:] = 0x5A

    def leaks(self) -> int:
        return len(self.live) + len(self.executables)


class Stream:
    def __init__(self, gpu: Gpu, flags: int = 0) -> None:
        gpu.check()
        assert flags == 1, "it would wait for the default stream"
        self.gpu = gpu
        self.handle = 0x1000 + len(gpu.streams)
        gpu.streams[self.handle] = self
        self.queue: deque[Callable[[], None]] = deque()
        self.recorded: list[Callable[[], None]] | None = None

    def add(self, name: str, work: Callable[[], None]) -> None:
        self.gpu.check()
        step = lambda: self.gpu.run(name, work)  # noqa: E731
        (self.queue if self.recorded is None else self.recorded).append(step)

    def synchronize(self) -> None:
        self.gpu.check()
        assert self.recorded is None, "waiting for a stream that is being captured"
        self.drain()

    def drain(self) -> None:
        while self.queue:
            self.queue.popleft()()

    def wait_for_event(self, event: Event) -> None:
        self.add("wait", event.reach)


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.stream: Stream | None = None
        self.generation = self.reached = 0
        self.seconds = 0.0

    def record(self, stream: Stream) -> Event:
        self.stream = stream
        self.generation += 1
        generation = self.generation

        def arrive() -> None:
            self.reached = generation
            self.seconds = time.perf_counter()

        stream.add("event", arrive)
        return self

    def time_since(self, start: Event) -> float:
        return (self.seconds - start.seconds) * 1e3

    def reach(self) -> None:
        """What waits runs the other stream as far as this event, and not a step further."""
        generation = self.generation
        while self.reached < generation:
            assert self.stream is not None
            self.stream.queue.popleft()()

    def synchronize(self) -> Event:
        self.gpu.check()
        self.reach()
        return self


class Allocation:
    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        gpu.check()
        if gpu.device_bytes + nbytes > gpu.limit:
            raise MemoryError("cuMemAlloc failed: out of memory")
        gpu.device_bytes += nbytes
        self.gpu, self.nbytes = gpu, nbytes
        self.address = gpu.allocate(nbytes)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.gpu.check()
        self.gpu.device_bytes -= self.nbytes
        self.gpu.free(self.address)


class HostAllocation:
    def __init__(self, gpu: Gpu, shape: Any, dtype: Any, mapped: bool) -> None:
        gpu.check()
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.gpu, self.mapped, self.address = gpu, mapped, gpu.allocate(nbytes)
        self.__array_interface__ = {
            "version": 3, "shape": tuple(shape), "typestr": np.dtype(dtype).str, "data": (self.address, False),
        }  # fmt: skip

    def get_device_pointer(self) -> int:
        assert self.mapped
        return self.address

    def free(self) -> None:
        self.gpu.check()
        self.gpu.free(self.address)


class Function:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.dynamic = 48 * 1024

    def get_attribute(self, name: str) -> int:
        return {"MAX_THREADS_PER_BLOCK": 1024}[name]

    def set_attribute(self, name: str, value: int) -> None:
        assert name == "MAX_DYNAMIC_SHARED_SIZE_BYTES" and value <= SHARED
        self.dynamic = value

    def __call__(self, *arguments: Any, grid: Any, block: Any, shared: int, stream: Stream) -> None:
        assert block == (1024, 1, 1) and shared <= self.dynamic
        given = np.frombuffer(_packed(arguments), ARGUMENTS)[0]
        stream.add("preprocess", lambda: self._run(given, grid[0], shared))

    def _run(self, given: Any, blocks: int, shared: int) -> None:
        count, spec, scratch = int(given["count"]), given["spec"], given["scratch"]
        side = int(spec["crop"])
        inputs = self.gpu.view(int(given["inputs"]), count * kernel.SLICE_INPUT.itemsize).view(kernel.SLICE_INPUT)
        pixels = int((inputs["rows"] * inputs["columns"]).sum())
        self.gpu.view(int(given["stored"]), 2 * pixels)
        self.gpu.view(int(given["out"]), count * int(spec["channels"]) * side * side)
        self.gpu.view(int(given["stats"]), count * kernel.HEAD_STATS.itemsize)
        self.gpu.view(int(scratch["memory"]), blocks * int(scratch["bytes"]))
        spec_copy, scratch_copy = np.array(spec), np.array(scratch)
        pointers = [ctypes.c_void_p(int(given[name])) for name in ("stored", "tables", "axes")]
        status = self.gpu.library.launch(
            ctypes.c_void_p(int(given["inputs"])), ctypes.c_int(count), *pointers,
            ctypes.c_void_p(spec_copy.ctypes.data), ctypes.c_void_p(scratch_copy.ctypes.data),
            ctypes.c_void_p(int(given["out"])), ctypes.c_void_p(int(given["stats"])),
            ctypes.c_uint(blocks), ctypes.c_uint(32), ctypes.c_uint(shared // 4), ctypes.c_uint(count),
        )  # fmt: skip
        assert status == 0


def _packed(arguments: tuple[Any, ...]) -> bytes:
    """As pycuda packs them (pycuda/driver.py, _build_arg_buf): numbers natively aligned, structures as they come."""
    formats = ""
    values: list[bytes | np.number[Any]] = []
    for argument in arguments:
        if isinstance(argument, np.void):
            formats += f"{argument.itemsize}s"
            values.append(argument.tobytes())
        else:
            assert isinstance(argument, np.number), type(argument)
            formats += argument.dtype.char
            values.append(argument)
    return struct.pack(formats, *values)


def driver(gpu: Gpu) -> ModuleType:
    """A stand-in for `pycuda.driver`."""
    cuda: Any = ModuleType("pycuda.driver")
    cuda.Error, cuda.MemoryError = Error, MemoryError
    cuda.init = lambda: None
    attributes = {"INTEGRATED": int(gpu.integrated), "MULTIPROCESSOR_COUNT": 2}
    attributes["MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"] = SHARED
    cuda.device_attribute = SimpleNamespace(**{name: name for name in attributes})
    names = ("MAX_THREADS_PER_BLOCK", "MAX_DYNAMIC_SHARED_SIZE_BYTES")
    cuda.function_attribute = SimpleNamespace(**{name: name for name in names})
    cuda.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
    context = SimpleNamespace(push=lambda: gpu.threads.append(threading.current_thread()), detach=lambda: None)
    cuda.Context = SimpleNamespace(pop=lambda: gpu.threads.remove(threading.current_thread()))
    cuda.Device = lambda index: SimpleNamespace(
        compute_capability=lambda: (8, 7), get_attribute=attributes.__getitem__, retain_primary_context=lambda: context
    )
    cuda.Stream = lambda flags=0: Stream(gpu, flags)
    cuda.Event = lambda: Event(gpu)
    cuda.mem_alloc = lambda nbytes: Allocation(gpu, nbytes)
    cuda.pagelocked_empty = lambda shape, dtype, mem_flags=0: np.asarray(
        HostAllocation(gpu, shape, dtype, mem_flags == 2)
    )
    cuda.module_from_buffer = lambda binary: SimpleNamespace(get_function=lambda name: Function(gpu))

    def up(address: int, host: Any, stream: Stream) -> None:
        target = gpu.view(address, host.nbytes)  # an address that is nobody's is found at once
        assert not gpu.integrated, "mapped memory needs no copy"
        stream.add("up", lambda: target.__setitem__(slice(None), host.reshape(-1).view(np.uint8)))

    def down(host: Any, address: int, stream: Stream) -> None:
        source = gpu.view(address, host.nbytes)
        stream.add("down", lambda: host.reshape(-1).view(np.uint8).__setitem__(slice(None), source))

    cuda.memcpy_htod_async, cuda.memcpy_dtoh_async = up, down
    return cuda

"""A GPU that is the CPU, and as much of `pycuda.driver` as is used; `graphs` and `tensorrt` beside it run on it too.

Kernels are the real source compiled for the CPU. Streams are as lazy as CUDA allows: nothing in one runs before
somebody waits for it, so that whoever forgets to wait reads garbage. Contexts belong to threads, memory that was given
back is not there any more, and a capture records without running. As with pycuda, what dies where the context is not
current leaks: every object is counted, and such a death is remembered.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from dtvit_edge.preprocess import kernel
from tests.support.cuda.harness import GUARD
from tests.support.cuda.streams import EVENT_FLAGS, Counted, Event, Stream

GARBAGE = 0xA5
SHARED = 99 * 1024  # of a block on SM 8.6, 8.9 and 12.0


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class Gpu:
    """The state behind the modules that stand in for the libraries.

    Attributes:
        limit: bytes of device memory; sticky: raised by whatever runs next, and everything after it.
        launched: what ran, in order; refuses_capture: as some engines do.
        steps: allocations and objects made so far; fails_at: the step that fails, counted from 1.
        objects: how many of each kind live; lost: kinds of what died where no context was current.
        names: of the GPUs that are there; opened: numbers of those that were opened.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        integrated: bool = False,
        limit: int = 1 << 40,
        names: tuple[str, ...] = ("Orin",),
        fails_at: int = 0,
    ) -> None:
        self.library = library
        self.integrated = integrated
        self.limit = limit
        self.names = names
        self.fails_at = fails_at
        self.sticky = ""
        self.refuses_capture = False
        self.live: dict[int, np.ndarray[Any, Any]] = {}
        self.mapped: set[int] = set()
        self.device_bytes = self.steps = 0
        self.objects: Counter[str] = Counter()
        self.lost: list[str] = []
        self.opened: list[int] = []
        self.launched: list[str] = []
        self.streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.threads: list[threading.Thread] = []

    @property
    def capturing(self) -> bool:
        return any(stream.recorded is not None for stream in self.streams.values())

    def check(self) -> None:
        assert threading.current_thread() in self.threads, "no context is current in this thread"
        if self.sticky:
            raise Error(self.sticky)

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise MemoryError("out of memory")

    def born(self, kind: str) -> None:
        self.check()
        self.step()
        self.objects[kind] += 1

    def dies(self, kind: str) -> None:
        self.objects[kind] -= 1
        if threading.current_thread() not in self.threads:
            self.lost.append(kind)

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
        self.mapped.discard(address)
        assert (memory[-GUARD:] == GARBAGE).all(), "written behind a buffer"
        memory[:] = 0x5A

    def push(self) -> None:
        self.threads.append(threading.current_thread())
        try:
            self.step()
        except MemoryError:
            self.threads.pop()
            raise

    def release(self) -> None:
        """The primary context goes; after a fault the driver takes the memory with it."""
        self.objects["primary context"] -= 1
        if self.sticky:
            self.live.clear()
            self.device_bytes = 0

    def left(self) -> dict[str, int]:
        """What is still there, by kind."""
        memory = {"memory": len(self.live), "executable graph": len(self.executables), "graph": len(self.graphs)}
        counts = self.objects + Counter(memory) + Counter(f"lost {kind}" for kind in self.lost)
        return dict(counts)


class Allocation:
    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        gpu.check()
        gpu.step()
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
        gpu.step()
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.gpu, self.mapped, self.address = gpu, mapped, gpu.allocate(nbytes)
        if mapped:
            gpu.mapped.add(self.address)
        self.__array_interface__ = {
            "version": 3, "shape": tuple(shape), "typestr": np.dtype(dtype).str, "data": (self.address, False),
        }  # fmt: skip

    def get_device_pointer(self) -> int:
        assert self.mapped
        return self.address

    def free(self) -> None:
        self.gpu.check()
        self.gpu.free(self.address)


class Module(Counted):
    kind = "module"

    def __init__(self, gpu: Gpu) -> None:
        self.begin(gpu)

    def get_function(self, name: str) -> Function:
        assert self.gpu is not None
        self.gpu.step()
        return Function(self.gpu, self, name)


class Function:
    def __init__(self, gpu: Gpu, module: Module, name: str) -> None:
        self.gpu, self.module, self.name = gpu, module, name
        self.dynamic = 48 * 1024

    def get_attribute(self, name: str) -> int:
        return {"MAX_THREADS_PER_BLOCK": 1024}[name]

    def set_attribute(self, name: str, value: int) -> None:
        assert name == "MAX_DYNAMIC_SHARED_SIZE_BYTES" and value <= SHARED
        self.dynamic = value

    def __call__(self, *arguments: Any, grid: Any, block: Any, shared: int, stream: Stream) -> None:
        assert block == (kernel.THREADS[self.name], 1, 1) and shared <= self.dynamic
        given = np.frombuffer(_packed(arguments), kernel.ARGUMENTS)
        stream.add(self.name, lambda: self._run(given, grid[0], shared))

    def _run(self, given: np.ndarray[Any, Any], blocks: int, shared: int) -> None:
        a, view = given[0], self.gpu.view
        count, side = int(a["count"]), int(a["spec"]["crop"])
        for one in view(int(a["inputs"]), count * kernel.SLICE_INPUT.itemsize).view(kernel.SLICE_INPUT):
            assert not one["stored"] % 16
            view(int(one["stored"]), kernel.stored_bytes((int(one["rows"]), int(one["columns"]))))
        view(int(a["out"]), count * int(a["spec"]["channels"]) * side * side)
        view(int(a["stats"]), count * kernel.HEAD_STATS.itemsize)
        places = blocks if self.name == kernel.WHOLE else count
        view(int(a["scratch"]["memory"]), places * int(a["scratch"]["bytes"]))
        numbers = (ctypes.c_uint(n) for n in (blocks, 32, shared, count))
        index, address = kernel.ENTRIES.index(self.name), ctypes.c_void_p(given.ctypes.data)
        assert self.gpu.library.launch(index, address, *numbers) == 0


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
    context = SimpleNamespace(push=gpu.push, detach=gpu.release)
    cuda.Context = SimpleNamespace(pop=lambda: gpu.threads.remove(threading.current_thread()))

    def device(index: int) -> Any:
        assert index < len(gpu.names)
        gpu.opened.append(index)

        def retain() -> Any:
            gpu.step()
            gpu.objects["primary context"] += 1
            return context

        return SimpleNamespace(
            compute_capability=lambda: (8, 7), get_attribute=attributes.__getitem__, retain_primary_context=retain
        )

    cuda.Device = device
    cuda.Stream = lambda flags=0: Stream(gpu, flags)
    cuda.event_flags = EVENT_FLAGS
    cuda.Event = lambda flags=0: Event(gpu, flags)
    cuda.mem_alloc = lambda nbytes: Allocation(gpu, nbytes)
    cuda.pagelocked_empty = lambda shape, dtype, mem_flags=0: np.asarray(
        HostAllocation(gpu, shape, dtype, mem_flags == 2)
    )
    cuda.module_from_buffer = lambda binary: Module(gpu)

    def up(address: int, host: Any, stream: Stream) -> None:
        target = gpu.view(address, host.nbytes)  # an address that is nobody's is found at once
        assert address not in gpu.mapped, "mapped memory needs no copy"
        stream.add("up", lambda: target.__setitem__(slice(None), host.reshape(-1).view(np.uint8)))

    def down(host: Any, address: int, stream: Stream) -> None:
        source = gpu.view(address, host.nbytes)
        stream.add("down", lambda: host.reshape(-1).view(np.uint8).__setitem__(slice(None), source))

    def across(target: int, source: int, nbytes: int, stream: Stream) -> None:
        to, of = gpu.view(target, nbytes), gpu.view(source, nbytes)
        stream.add("across", lambda: to.__setitem__(slice(None), of))

    cuda.memcpy_htod_async, cuda.memcpy_dtoh_async, cuda.memcpy_dtod_async = up, down, across
    return cuda

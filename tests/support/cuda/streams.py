"""Streams and events of the stand-in GPU, as lazy as CUDA allows; counted, and destroyed with the last reference."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.cuda.device import Gpu

EVENT_FLAGS = SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1, DISABLE_TIMING=2)


class Counted:
    """As pycuda's objects: destroyed with the last reference."""

    kind = ""
    gpu: Gpu | None = None

    def begin(self, gpu: Gpu) -> None:
        gpu.born(self.kind)
        self.gpu = gpu

    def __del__(self) -> None:
        if self.gpu is not None:
            self.gpu.dies(self.kind)


class Stream(Counted):
    kind = "stream"
    gpu: Gpu

    def __init__(self, gpu: Gpu, flags: int = 0) -> None:
        assert flags == 1, "it would wait for the default stream"
        self.begin(gpu)
        self.handle = 0x1000 + gpu.steps
        gpu.streams[self.handle] = self
        self.queue: deque[Callable[[], None]] = deque()
        self.recorded: list[Callable[[], None]] | None = None
        self.invalidated = False

    def add(self, name: str, work: Callable[[], None]) -> None:
        self.gpu.check()
        gpu = self.gpu  # what waits in a stream does not keep it alive
        step = lambda: gpu.run(name, work)  # noqa: E731
        (self.queue if self.recorded is None else self.recorded).append(step)

    def synchronize(self) -> None:
        self.gpu.check()
        assert self.recorded is None, "waiting for a stream that is being captured"
        self.drain()

    def drain(self) -> None:
        while self.queue:
            self.queue.popleft()()

    def wait_for_event(self, event: Event) -> None:
        self.add("wait", event.mark.reach)


class Mark:
    """What streams know of an event: it may be destroyed while they wait."""

    def __init__(self) -> None:
        self.stream: weakref.ref[Stream] | None = None
        self.generation = self.reached = 0
        self.seconds = 0.0

    def record(self, stream: Stream) -> None:
        self.stream = weakref.ref(stream)
        self.generation += 1
        generation = self.generation

        def arrive() -> None:
            self.reached = generation
            self.seconds = time.perf_counter()

        stream.add("event", arrive)

    def reach(self) -> None:
        """What waits runs the other stream as far as this event, and not a step further."""
        generation = self.generation
        while self.reached < generation:
            stream = None if self.stream is None else self.stream()
            assert stream is not None
            stream.queue.popleft()()


class Event(Counted):
    kind = "event"
    gpu: Gpu

    def __init__(self, gpu: Gpu, flags: int = 0) -> None:
        self.begin(gpu)
        self.flags = flags
        self.mark = Mark()

    def record(self, stream: Stream) -> Event:
        self.mark.record(stream)
        return self

    def time_since(self, start: Event) -> float:
        assert not (self.flags | start.flags) & EVENT_FLAGS.DISABLE_TIMING
        return (self.mark.seconds - start.mark.seconds) * 1e3

    def synchronize(self) -> Event:
        self.gpu.check()
        self.mark.reach()
        return self

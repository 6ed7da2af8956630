"""What a batch costs the thread that owns the GPU, between the slices that readers have prepared and its last launch.

    python -m benchmarks.standalone.host_packing

The CUDA driver is one that does nothing, so that no GPU is needed: what is left is Python's own time, CPU seconds of
the thread. A real driver adds its own time for each call; the calls are counted. `prepared` are slices as reader
threads leave them, in page-locked memory; `as they are` are slices whose pixels this thread must copy, as it had to for
all before.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import click
import numpy as np

from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge.cli import render
from dtvit_edge.cuda.device import Device
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.preprocess import compiled
from dtvit_edge.scoring.gpu_executor import GpuExecutor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec

WHAT = "host packing: a batch in the thread that owns the GPU"
PREPARED, AS_THEY_ARE = "prepared", "as they are"
BATCHES = (1, 8, 64)
SHAPE = (512, 512)


class _Idle:
    """A driver whose every call is counted and does nothing; what it makes is counted likewise."""

    handle = address = 0

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls

    def __call__(self, *arguments: Any, **options: Any) -> _Idle:
        return self

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> _Idle:
            self._calls[name] += 1
            return self

        return call

    def __int__(self) -> int:
        return 1 << 20

    def get_attribute(self, name: str) -> int:
        return 1024


class _PageLocked(np.ndarray):
    """Memory of the host whose `base` can be freed."""

    def free(self) -> None:
        """Nothing: the array goes with its last reference."""


class _HostDevice(Device):
    """A device of a big GPU's size without a GPU; everything runs in the calling thread."""

    integrated, sm, processors, shared_bytes = False, "9.0", 132, 227 << 10

    def __init__(self, calls: Counter[str]) -> None:
        super().__init__()
        idle: Any = _Idle(calls)
        self.cuda = SimpleNamespace(
            Error=RuntimeError, MemoryError=MemoryError, host_alloc_flags=SimpleNamespace(DEVICEMAP=2),
            function_attribute=SimpleNamespace(MAX_THREADS_PER_BLOCK=0, MAX_DYNAMIC_SHARED_SIZE_BYTES=1),
            pagelocked_empty=lambda shape, dtype, mem_flags=0: np.zeros(shape, dtype).view(_PageLocked)[:],
            mem_alloc=lambda nbytes: idle, module_from_buffer=lambda binary: idle, memcpy_htod_async=idle.copy_up,
            memcpy_dtoh_async=idle.copy_down, memcpy_dtod_async=idle.copy_across, Stream=lambda flags: idle,
            Event=lambda flags: idle, event_flags=SimpleNamespace(DISABLE_TIMING=2, BLOCKING_SYNC=1),
        )  # fmt: skip

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def release(self, function: Callable[[], object]) -> None:
        function()


def measure(batch: int, prepared: bool, rounds: int) -> tuple[list[float], float]:
    """Microseconds of CPU a slice of each round, and driver calls a batch."""
    calls: Counter[str] = Counter()
    device, spec = _HostDevice(calls), PreprocessSpec()
    engine: Any = _Idle(calls)
    engine.stream, engine.max_batch, engine.input_bytes, engine.input = engine, batch, batch * spec.crop**2, 1 << 20
    backend: Any = SimpleNamespace(batch=batch, device=device, engine=engine)
    header: Any = SimpleNamespace(encoding=PixelEncoding())
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(compiled, "compiled", lambda sm: b""))
        stack.enter_context(mock.patch("dtvit_edge.preprocess.cuda.GraphCache", lambda stream: engine))
        executor = stack.enter_context(GpuExecutor(spec, backend, batch))
        slices: list[Any] = [Slice(header, np.full(SHAPE, i, np.uint16)) for i in range(batch)]
        if prepared:
            slices = [executor.prepare(slice_) for slice_ in slices]
        samples = []
        for round_ in range(rounds + 2):
            if round_ == 2:
                calls.clear()
            start = time.thread_time()
            executor.submit(slices)
            executor.collect()
            samples.append(1e6 * (time.thread_time() - start) / batch)
        return samples[2:], sum(calls.values()) / rounds


@click.command()
@click.option("--rounds", default=100, show_default=True, type=click.IntRange(min=5), help="Take this many samples.")
@record_option()
def main(rounds: int, out: Path) -> None:
    """Measure what the thread that owns the GPU does for a batch, and append the record."""
    samples: dict[str, list[float]] = {}
    summary: dict[str, float] = {}
    for batch in BATCHES:
        for way in (PREPARED, AS_THEY_ARE):
            side = f"{way}, batch {batch}"
            samples[side], calls = measure(batch, way == PREPARED, rounds)
            summary |= {f"{side}: us_median": statistics.median(samples[side]), f"{side}: driver calls": calls}
            render.echo(f"{side:<24} {summary[f'{side}: us_median']:8.1f} us a slice, {calls:.0f} driver calls a batch")
    keep(out, WHAT, "us", samples, summary, rounds=rounds, shape=list(SHAPE))


if __name__ == "__main__":
    start(main)

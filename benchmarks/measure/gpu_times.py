"""What is timed on a GPU: preprocessing alone, the engine alone, and the whole executor from host memory.

Device times lie between two CUDA events around each round. All rounds are queued and waited for once, so that the
device works on one while Python launches the next, and Python's launch is not counted as the device's time. Where a
round takes the device less than Python takes to queue one (some 10 us a launch), the device waits for Python even so,
and the time is an upper bound. The executor's are wall times from slices in the host's memory to logits in the host's
memory, two batches under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import Buffer
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.cuda import CudaPreprocessor
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.gpu_slot import Slot
from dtvit_edge.spec import PreprocessSpec
from dtvit_edge.trt.backend import EngineBackend

WARM_UP = 5


@dataclass(frozen=True)
class KernelOutput:
    """What the CUDA path made of N slices.

    Attributes:
        pixels: (N, C, crop, crop) uint8; counts: (N,) of `kernel.HEAD_STATS`.
        microseconds: a slice, of each round; by_launch: the same, launch by launch.
    """

    pixels: NDArray[np.uint8]
    counts: NDArray[np.void]
    microseconds: list[float]
    by_launch: dict[str, list[float]]


def run_kernel(
    device: Device, spec: PreprocessSpec, slices: Sequence[Slice], rounds: int = 0, spread: bool | None = None
) -> KernelOutput:
    """One batch through the kernel; `rounds` further launches of it are timed, one sample each.

    Inside the timer: the kernel alone, on slices that lie on the device already (a Jetson's GPU reads them from the
    host's memory, as in a run).

    Args:
        spread: each slice over several blocks, or a slice a block; by default as a run would do it.
    """
    return device.call(_run_kernel, device, spec, slices, rounds, spread)


def differences(output: KernelOutput, spec: PreprocessSpec, slices: Sequence[Slice]) -> int:
    """Slices in which a byte, or a count, is not the CPU path's."""
    cpu = CpuPreprocessor(spec)
    wrong = 0
    for slice_, pixels, counts in zip(slices, output.pixels, output.counts, strict=True):
        expected = cpu(slice_.stored, slice_.header.encoding)
        same = counts["status"] == kernel.PREPARED and counts["head"] == expected.head_pixels
        same &= np.array_equal(pixels, expected.pixels)
        same &= counts["brain"] / max(counts["head"], 1) == expected.brain_share
        wrong += not same
    return wrong


def engine_ms(backend: EngineBackend, batch: int, rounds: int) -> list[float]:
    """Milliseconds of device time a call of the engine alone, as a CUDA graph where it can be one.

    Inside the timer: the engine on bytes that lie on the device already; no preprocessing, no copy.
    """
    return backend.device.call(_engine_ms, backend, batch, rounds)


def stages_ms(backend: EngineBackend, pixels: NDArray[np.uint8], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of device time of one batch by stage: `copy in`, `infer`, `copy out`; mapped memory has no copies.

    Inside the timers: the copy of prepared bytes to the device, the engine, the copy of the logits back. The three of a
    round follow each other in the stream, as in `EngineBackend.infer`; what the host does before is in none of them.

    Args:
        pixels: (N, C, side, side) uint8, N up to the engine's largest batch.
    """
    return backend.device.call(_stages_ms, backend, pixels, rounds)


def executor_ms(executor: Executor, slices: Sequence[Slice], batch: int, rounds: int) -> list[float]:
    """Milliseconds of wall time a batch through the whole executor, after it has been filled.

    Inside the timer: copy, preprocessing, engine, copy back and Python; no file is read, and the slices lie in
    page-locked memory, as reader threads leave them.
    """
    batches = [[executor.prepare(slices[(i * batch + k) % len(slices)]) for k in range(batch)] for i in range(WARM_UP)]
    for i in range(executor.depth):
        executor.submit(batches[i % WARM_UP])
    samples = []
    start = time.perf_counter()
    for i in range(WARM_UP + rounds):
        executor.collect()
        executor.submit(batches[i % WARM_UP])
        end = time.perf_counter()
        samples.append((end - start) * 1e3)
        start = end
    for _ in range(executor.depth):
        executor.collect()
    return samples[WARM_UP:]


def _run_kernel(
    device: Device, spec: PreprocessSpec, slices: Sequence[Slice], rounds: int, spread: bool | None
) -> KernelOutput:
    shape = (len(slices), spec.channels, spec.crop, spec.crop)
    with Resources() as undo:
        preprocess = CudaPreprocessor(device, spec, spread=spread)
        undo.add(preprocess.free)
        slot = Slot(device, len(slices), int(np.prod(shape)))
        undo.add(slot.free)
        pixels = Buffer(device, int(np.prod(shape)), mapped=False)
        undo.add(pixels.free)
        stream = preprocess.stream
        placed = slot.upload(slices, stream)
        launches = preprocess.prepare(placed, slot.inputs, pixels.address, slot.head_stats.address)
        for _ in range(WARM_UP if rounds else 1):
            preprocess.launch(launches)
        samples = _timed(device, stream, lambda: preprocess.launch(launches), rounds)
        steps = [partial(preprocess.launch_step, launches, step) for step in launches.steps]
        by_launch = _queued(device, stream, steps, rounds)
        pixels.download(stream, pixels.nbytes)
        slot.head_stats.download(stream, slot.head_stats.nbytes)
        stream.synchronize()
        output = KernelOutput(
            pixels.host.reshape(shape).copy(),
            slot.head_stats.host.view(kernel.HEAD_STATS).copy(),
            [1e3 * sample / len(slices) for sample in samples],
            {
                step.entry: [1e3 * sample / len(slices) for sample in of_step]
                for step, of_step in zip(launches.steps, by_launch, strict=True)
            },
        )
        undo.free()
        return output


def _engine_ms(backend: EngineBackend, batch: int, rounds: int) -> list[float]:
    engine = backend.engine

    def run() -> None:
        engine.run(batch, b"alone", lambda: None)

    for _ in range(WARM_UP):
        run()
    return _timed(backend.device, engine.stream, run, rounds)


def _stages_ms(backend: EngineBackend, pixels: NDArray[np.uint8], rounds: int) -> dict[str, list[float]]:
    engine, count = backend.engine, len(pixels)
    engine.put(pixels)
    stages: dict[str, Callable[[], None]] = {
        "copy in": lambda: engine.upload(count),
        "infer": lambda: engine.run(count, b"alone", lambda: None),
        "copy out": lambda: engine.fetch(count),
    }
    for _ in range(WARM_UP):
        for launch in stages.values():
            launch()
    return dict(zip(stages, _queued(backend.device, engine.stream, list(stages.values()), rounds), strict=True))


def _timed(device: Device, stream: Any, launch: Callable[[], None], rounds: int) -> list[float]:
    return _queued(device, stream, [launch], rounds)[0]


def _queued(device: Device, stream: Any, launches: Sequence[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Milliseconds of each launch by round: all rounds are queued with an event before and after each, then waited for.

    An event marks the end of one launch and the start of the next.
    """
    events = [[device.cuda.Event() for _ in range(len(launches) + 1)] for _ in range(rounds)]
    for marks in events:
        marks[0].record(stream)
        for launch, mark in zip(launches, marks[1:], strict=True):
            launch()
            mark.record(stream)
    if events:
        events[-1][-1].synchronize()
    return [[float(marks[i + 1].time_since(marks[i])) for marks in events] for i in range(len(launches))]

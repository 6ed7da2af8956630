"""Slices a second over batch sizes, read by the sensors meanwhile; and a sustained run that shows thermal drift.

Inside the timer is one call of `Backend.infer` on a batch that lies ready, whatever the batch holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.measure.sensors import Sampler, Sensor
from benchmarks.measure.statistics import Ratio, ratio
from benchmarks.settings import LEAST_SAMPLES
from dtvit_edge.errors import DeviceFault
from evaluation.sampling import Pixels

INSIDE_TIMER = "one call of Backend.infer on a batch of model bytes that lies ready"
# A sample takes at least so long: of calls of microseconds a record need not hold a hundred thousand.
SAMPLE_S = 0.02
# Of a sustained run: its beginning and its end, each this share of the samples.
_DRIFT_FRACTION = 5


@dataclass(frozen=True)
class Throughput:
    """One configuration at one batch size.

    Attributes:
        slices_a_second: each sample over as many calls as `SAMPLE_S` hold.
        calls: of all samples together; seconds: that they took.
        sensors: `Sampler.summary` over the calls.
    """

    batch: int
    slices_a_second: list[float]
    calls: int
    seconds: float
    sensors: dict[str, float]

    @property
    def rate(self) -> float:
        """Slices a second over everything."""
        return self.batch * self.calls / self.seconds

    def joules_a_slice(self) -> dict[str, float]:
        """By rail or counter; empty where no sensor says."""
        slices = self.batch * self.calls
        return {name: value / slices for name, value in self.sensors.items() if name.endswith("joules")}


def measure(
    infer: Callable[[Pixels], object], pixels: Pixels, batch: int, seconds: float, sensors: Sequence[Sensor]
) -> Throughput:
    """Call again and again for `seconds`, at least `LEAST_SAMPLES` samples long, after one call of warm-up.

    Raises:
        DeviceFault: as the backend; an engine may not take so large a batch.
    """
    chosen = np.ascontiguousarray(pixels[np.arange(batch) % len(pixels)])
    infer(chosen)
    rates: list[float] = []
    calls = 0
    with Sampler(sensors) as sampler:
        begin = time.perf_counter()
        while len(rates) < LEAST_SAMPLES or time.perf_counter() - begin < seconds:
            start, calls_of_sample = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < SAMPLE_S:
                infer(chosen)
                calls_of_sample += 1
            rates.append(batch * calls_of_sample / passed)
            calls += calls_of_sample
        elapsed = time.perf_counter() - begin
    return Throughput(batch, rates, calls, elapsed, sampler.summary())


def sweep(
    infer: Callable[[Pixels], object],
    pixels: Pixels,
    batches: Sequence[int],
    seconds: float,
    sensors: Sequence[Sensor],
    mark: Callable[[int], None] = lambda batch: None,
) -> tuple[list[Throughput], dict[int, str]]:
    """Every batch size, and why a size could not be measured.

    Args:
        mark: called with the batch size before and after it is measured.
    """
    measurements: list[Throughput] = []
    refused: dict[int, str] = {}
    for batch in batches:
        mark(batch)
        try:
            measurements.append(measure(infer, pixels, batch, seconds, sensors))
        except DeviceFault as error:
            refused[batch] = str(error)
            break
        mark(batch)
    return measurements, refused


def sustained(infer: Callable[[Pixels], object], pixels: Pixels, batch: int, seconds: float) -> list[float]:
    """Milliseconds of every call for that long, in order."""
    chosen = np.ascontiguousarray(pixels[np.arange(batch) % len(pixels)])
    infer(chosen)
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
        start = time.perf_counter()
        infer(chosen)
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def drift(samples: Sequence[float]) -> Ratio:
    """The last fifth of a sustained run against its first."""
    fifth = max(len(samples) // _DRIFT_FRACTION, 1)
    return ratio(samples[-fifth:], samples[:fifth], paired=False)

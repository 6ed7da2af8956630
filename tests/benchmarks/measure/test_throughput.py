from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.measure import latency
from benchmarks.measure.sensors import Reading
from benchmarks.measure.throughput import SAMPLE_S, drift, measure, sustained, sweep
from benchmarks.measure.yardstick import Yardstick
from benchmarks.settings import Effort
from dtvit_edge.errors import DeviceFault
from tests.support.bench_runs import TINY

PIXELS = np.zeros((3, 1, 4, 4), np.uint8)


@dataclass
class Counter:
    """A sensor whose energy counter rises by 6 J a look."""

    name: str = "counter"
    looks: int = 0

    def read(self) -> Reading:
        self.looks += 1
        return Reading(energy_j=6.0 * self.looks)


@dataclass
class Model:
    """Remembers the batches that it was shown; refuses those above `most`."""

    most: int = 100
    seen: list[int] = field(default_factory=list)

    def infer(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        if len(pixels) > self.most:
            raise DeviceFault(f"a batch of {len(pixels)}")
        self.seen.append(len(pixels))
        return {}


def test_every_call_has_the_batch_that_is_measured_and_is_counted() -> None:
    model = Model()
    throughput = measure(model.infer, PIXELS, 8, 0.05, [])
    assert set(model.seen) == {8} and throughput.calls == len(model.seen) - 1
    assert throughput.rate == pytest.approx(8 * throughput.calls / throughput.seconds)
    assert 2 <= len(throughput.slices_a_second) <= throughput.seconds / SAMPLE_S + 1


def test_energy_is_by_the_slice() -> None:
    throughput = measure(lambda pixels: time.sleep(0.03), PIXELS, 4, 0.0, [Counter()])
    assert throughput.calls == 2
    (per_slice,) = throughput.joules_a_slice().values()
    assert per_slice == pytest.approx(throughput.sensors["counter: joules"] / 8) and per_slice > 0


def test_a_batch_that_is_refused_is_named_and_larger_ones_are_not_tried() -> None:
    model = Model(most=2)
    measurements, refused = sweep(model.infer, PIXELS, (1, 2, 4, 8), 0.0, [])
    assert [measurement.batch for measurement in measurements] == [1, 2] and refused == {4: "a batch of 4"}


def test_a_sustained_run_that_slows_down_drifts() -> None:
    rng = np.random.default_rng(0)
    steady = 10 + rng.normal(0, 0.05, 500)
    assert drift(steady.tolist()).verdict == "no change"
    assert drift((steady * np.linspace(1, 1.3, 500)).tolist()).verdict == "slower"
    assert len(sustained(Model().infer, PIXELS, 2, 0.01)) >= 2


def test_a_latency_takes_between_the_least_and_the_most_samples() -> None:
    slow = {"a": lambda: time.sleep(0.004), "b": lambda: None}
    warm_up, samples = latency.measure(slow, TINY, Yardstick())
    assert {len(values) for values in samples.values()} == {TINY.least}
    assert {len(values) for values in warm_up.values()} == {3}
    many = Effort(**{**vars(TINY), "seconds": 100.0})
    assert {len(values) for values in latency.measure({"b": lambda: None}, many, Yardstick())[1].values()} == {
        TINY.most
    }


@pytest.mark.parametrize("pools", [False, True])
def test_where_contenders_have_pools_of_threads_they_rest_before_each(
    pools: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr("benchmarks.measure.interleaving.time.sleep", rests.append)
    latency.measure({"a": lambda: None}, TINY, Yardstick(), pools=pools)
    assert set(rests) == ({latency.PAUSE_S} if pools else set())


def test_every_call_gets_another_slice() -> None:
    seen: list[np.ndarray] = []
    call = latency.one_slice(seen.append, np.arange(3))
    for _ in range(4):
        call()
    assert [part.tolist() for part in seen] == [[0], [1], [2], [0]]

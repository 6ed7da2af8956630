"""A fixed workload of a library alone, timed among the others: what the machine itself did meanwhile.

A machine that others use too is faster in one hour than in the next, by more than what a comparison looks for. What
slows this workload a little slows a model about as much, so that two runs are compared after each was divided by it
(`compare.STEADY_YARDSTICK` says how far that holds). It is what models do most, products of
single-precision matrices that stay in a core's cache, by NumPy's BLAS on one core.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import ThreadpoolController

from benchmarks.measure.interleaving import median_ms
from evaluation.records import Record

SIZE, PRODUCTS = 256, 8
WORKLOAD = f"{PRODUCTS} products of {SIZE} x {SIZE} float32 matrices by NumPy on one core"
YARDSTICK_OPTION = "yardstick_ms"
# The key of samples that belong to all of a record's.
ALL_SAMPLES = ""
# Of one sample, where it does not take turns with single calls; the median counts.
CALLS_PER_SAMPLE = 9


class Yardstick:
    """The workload, and what it took.

    Attributes:
        ms: samples by the key of the samples that they belong to, or `ALL_SAMPLES`.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.standard_normal((SIZE, SIZE), dtype=np.float32) for _ in "ab")
        self._product = np.empty_like(self._a)
        self._threads = ThreadpoolController()
        self.ms: dict[str, list[float]] = {}

    def __call__(self) -> None:
        """Once, some milliseconds long."""
        with self._threads.limit(limits=1, user_api="blas"):
            for _ in range(PRODUCTS):
                np.matmul(self._a, self._b, out=self._product)

    def take(self, key: str = ALL_SAMPLES) -> None:
        """A sample."""
        self.ms.setdefault(key, []).append(median_ms(self, CALLS_PER_SAMPLE))

    def take_options(self) -> dict[str, dict[str, list[float]]]:
        """What a record's options keep of it; it begins anew."""
        kept, self.ms = self.ms, {}
        return {YARDSTICK_OPTION: kept} if kept else {}


def yardstick_ms(record: Record, key: str) -> list[float] | None:
    """Its milliseconds while a record's samples of that key were taken, in order; None where there are none."""
    kept = record.options.get(YARDSTICK_OPTION, {})
    milliseconds: list[float] | None = kept.get(key, kept.get(ALL_SAMPLES))
    return milliseconds


def yardstick_units(a: tuple[Record, str], b: tuple[Record, str]) -> tuple[list[float], list[float]] | None:
    """`yardstick_ms` of the samples of two records, for `statistics.ratio`; None where it did not run with both."""
    first, second = yardstick_ms(*a), yardstick_ms(*b)
    return None if first is None or second is None else (first, second)

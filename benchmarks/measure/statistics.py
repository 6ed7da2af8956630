"""Percentiles only where the samples allow them, and ratios with their bootstrap intervals.

The floors are MLPerf's early stopping: a percentile stands on n samples if a true tail of that size would show at most
one of them above it in no more than one run of a hundred (MLCommons inference rules, appendix on early stopping). That
gives the 64 for p90 and the 662 for p99 that are quoted everywhere, and by the same formula 11 for p50 and 130 for p95.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, bootstrap

from evaluation.metrics import LEVEL

QUANTILES = (0.50, 0.90, 0.95, 0.99)
# What two runs of one thing on one quiet machine differ by: memory layout and clocks are drawn once a process, and no
# interval from the samples of one process knows of them.
MARGIN = 0.02
BLOCKS = 12
_RESAMPLES = 2000
_TAIL, _CONFIDENCE = 1, 0.99
# What makes two modes of a run's samples, `two_modes`. In tests of its own none is seen in one of a hundred normal,
# lognormal or uniform sets of 64.
_LEAST_OF_TWO, _LEAST_GROUP, _APART, _IN_BETWEEN = 40, 0.1, 0.05, 0.1


@dataclass(frozen=True)
class Ratio:
    """One time over another, with a confidence interval at `evaluation.metrics.LEVEL`.

    Attributes:
        low, high: 0 and infinity where the samples give no interval.
    """

    value: float
    low: float = 0.0
    high: float = math.inf

    def __str__(self) -> str:
        between = f" ({self.low:.3f} to {self.high:.3f})" if math.isfinite(self.high) else ""
        return f"{self.value:.3f}{between}"

    @property
    def verdict(self) -> str:
        """`slower`, `faster`, `no change` within `MARGIN`, or `cannot tell` where the interval is too wide."""
        if self.low > 1 + MARGIN:
            return "slower"
        if self.high < 1 - MARGIN:
            return "faster"
        return "no change" if 1 - MARGIN <= self.value <= 1 + MARGIN and self._narrow else "cannot tell"

    @property
    def _narrow(self) -> bool:
        return self.low >= 1 - 2 * MARGIN and self.high <= 1 + 2 * MARGIN


@lru_cache(maxsize=16)
def least_samples(quantile: float) -> int:
    """The fewest samples on which a percentile stands."""
    return next(n for n in count(1) if binom.cdf(_TAIL, n, 1 - quantile) <= 1 - _CONFIDENCE)


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """`p50`, `p90`, `p95` and `p99`, as far as there are samples enough."""
    return {
        f"p{quantile * 100:.0f}": float(np.quantile(samples, quantile))
        for quantile in QUANTILES
        if len(samples) >= least_samples(quantile)
    }


def two_modes(samples: Sequence[float]) -> tuple[float, float] | None:
    """The middles of two groups that the samples fall into with hardly any between them, the smaller one first.

    The samples are split where the variance between the groups is largest (Otsu's threshold). They are two modes where
    each group has `_LEAST_GROUP` of them, the groups' medians lie `_APART` from each other, and in the middle third
    between those medians lies less than `_IN_BETWEEN` of what the smaller group holds: of a normal or a uniform
    distribution it is a third. Fewer than `_LEAST_OF_TWO` samples say nothing.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(ordered)
    if count < _LEAST_OF_TWO:
        return None
    sizes = np.arange(1, count)
    below = np.cumsum(ordered)[:-1]
    apart = below / sizes - (ordered.sum() - below) / (count - sizes)
    split = int(sizes[np.argmax(sizes * (count - sizes) * apart**2)])
    low, high = float(np.median(ordered[:split])), float(np.median(ordered[split:]))
    smaller = min(split, count - split)
    third = (high - low) / 3
    between = int(((ordered > low + third) & (ordered < high - third)).sum())
    if smaller < max(3.0, _LEAST_GROUP * count) or high < low * (1 + _APART) or between >= _IN_BETWEEN * smaller:
        return None
    return low, high


def ratio(
    a: Sequence[float],
    b: Sequence[float],
    *,
    paired: bool,
    seed: int = 0,
    units: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Ratio:
    """The ratio of the medians of a and b.

    Args:
        paired: sample i of both was taken in the same round. Else the two are resampled apart, in `BLOCKS` stretches of
            time by their medians: neighbouring samples are alike, and single ones would look surer than they are.
        units: of samples that are not paired: what one and the same thing took meanwhile, in order. Each stretch is
            divided by the unit taken in it.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    value = float(np.median(first) / np.median(second))
    if not paired:
        first, second = _blocks(first), _blocks(second)
    if units is not None:
        first, second = (
            values / _units(unit, len(values)) for values, unit in zip((first, second), units, strict=True)
        )
        value = float(np.median(first) / np.median(second))
    if min(len(first), len(second)) < 2:
        return Ratio(value)
    interval = bootstrap(
        (first, second),
        _ratio_of_medians,
        paired=paired,
        vectorized=True,
        n_resamples=_RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Ratio(value, float(interval.low), float(interval.high))


def _ratio_of_medians(a: NDArray[np.float64], b: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return np.asarray(np.median(a, axis=axis) / np.median(b, axis=axis))


def _blocks(samples: NDArray[np.float64], count: int = BLOCKS) -> NDArray[np.float64]:
    return np.array([np.median(part) for part in np.array_split(samples, min(count, len(samples)))])


def _units(samples: Sequence[float], count: int) -> NDArray[np.float64]:
    """One for each of so many stretches, or one for all where there are fewer."""
    values = np.asarray(samples, dtype=np.float64)
    return _blocks(values, count) if len(values) >= count else np.median(values, keepdims=True)

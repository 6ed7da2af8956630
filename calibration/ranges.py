"""Five ways to a range, all from one histogram: min-max, wide, entropy, percentile and mean squared error.

Which is best differs from model to model by more than INT8 itself costs, so that all are tried and the gate's own
measure chooses. Each gives the largest magnitude that is kept; `Range` is what is left of a tensor's values then, and
how int8 spans them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from calibration.activations import BINS, ChannelRange, Histogram
from calibration.quantizable import QuantizableOp

# How much wider than min-max. Of the 49 inputs of a ViT-S/14 calibrated on 96 slices of one scanner, 34 went
# beyond their range on 37 slices of others, 3 % in the median of all, 24 % in the worst twentieth, 48 % at most.
HEADROOM = 1.25
PERCENTILE = 99.999  # onnxruntime.quantization's default
LEVELS = 127  # symmetric int8: -127 to 127
_ENTROPY_BINS = 256  # a side, twice as many in all; the search takes the square of it
_CANDIDATES = 128
# A symmetric grid that is this many times as coarse as a shifted one is shifted. Behind GELU it is nearly twice as
# coarse; tensors that lie around zero by themselves shall not cost an operator.
_LEAST_GAIN = 1.2


@dataclass(frozen=True)
class Range:
    """The lowest and highest value of one tensor that int8 holds without clipping."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude; NaN where an end is."""
        return max(-self.low, self.high) if self.low <= self.high else math.nan

    def to(self, largest: float) -> Range:
        """Clipped to a largest magnitude; or, where that is more than its own, wider at both ends by the same share."""
        share = max(largest / self.largest, 1.0)
        low, high = min(self.low, self.low * share), max(self.high, self.high * share)
        return Range(max(low, -largest), min(high, largest))

    def grid(self, *, shiftable: bool = True) -> tuple[np.float32, int]:
        """The size of a step and how many steps are subtracted before rounding: rint(x / size) - steps is in int8.

        A whole number of steps, so that zero stays exact: most of what GELU gives lies there, and an error that is the
        same in every channel adds up. The size is rounded up to float16, so that a graph with float16 scales holds the
        same grid.

        Args:
            shiftable: False where nothing may be subtracted.
        """
        symmetric = max(-self.low, self.high) / LEVELS
        # One step less: the number of steps is rounded, and neither end may be clipped.
        shifted = (self.high - self.low) / (2 * LEVELS - 1)
        if not shiftable or symmetric < _LEAST_GAIN * shifted:
            return half_above(symmetric), 0
        size = half_above(shifted)
        return size, int(np.rint((self.high + self.low) / 2 / size))


def half_above(value: float) -> np.float32:
    """The smallest float16 that is not below a positive number, as float32; infinity stays what it is."""
    with np.errstate(over="ignore"):
        half = np.float16(value)
    return np.float32(half if float(half) >= value else np.nextafter(half, np.float16(np.inf)))


def minmax(histogram: Histogram) -> float:
    """The largest magnitude seen."""
    return histogram.largest


def wide(histogram: Histogram) -> float:
    """The largest magnitude seen, and a share more for what another scanner shows."""
    return HEADROOM * histogram.largest


def percentile(histogram: Histogram) -> float:
    """The magnitude below which `PERCENTILE` per cent of the values lie."""
    shares = np.cumsum(histogram.counts) / histogram.counts.sum()
    return float(_edges(histogram)[1 + int(np.searchsorted(shares, PERCENTILE / 100))])


def mse(histogram: Histogram) -> float:
    """The threshold with the least mean squared error of rounding and clipping together."""
    edges = _edges(histogram)
    middle = (edges[:-1] + edges[1:]) / 2
    filled = histogram.counts > 0
    middle, counts = middle[filled], histogram.counts[filled]
    candidates = histogram.largest * np.arange(1, _CANDIDATES + 1) / _CANDIDATES
    errors = []
    for threshold in candidates:
        scale = threshold / LEVELS
        rounded = np.minimum(np.rint(middle / scale), LEVELS) * scale
        errors.append(float((counts * (middle - rounded) ** 2).sum()))
    return float(candidates[int(np.argmin(errors))])


def entropy(histogram: Histogram) -> float:
    """The threshold with the least Kullback-Leibler divergence, by onnxruntime's search (Migacz, GTC 2017)."""
    half = histogram.counts.reshape(_ENTROPY_BINS, BINS // _ENTROPY_BINS).sum(axis=1)
    both = np.concatenate([half[::-1], half])
    edges = np.linspace(-histogram.largest, histogram.largest, len(both) + 1)
    collector = HistogramCollector("entropy", True, len(both), 128, PERCENTILE, "same")
    low, high = collector.get_entropy_threshold((both, edges, edges[0], edges[-1]), 128)
    return float(max(abs(low), abs(high)))


METHODS: dict[str, Callable[[Histogram], float]] = {
    "minmax": minmax,
    "wide": wide,
    "entropy": entropy,
    "percentile": percentile,
    "mse": mse,
}


def _edges(histogram: Histogram) -> NDArray[np.float64]:
    return np.linspace(0, histogram.largest, BINS + 1)


def whole_ranges(ops: Sequence[QuantizableOp], ranges: Mapping[str, ChannelRange]) -> dict[str, Range]:
    """The range over all channels of each activation that the ops read."""
    names = [name for op in ops for name in op.activations]
    return {name: Range(float(ranges[name].low.min()), float(ranges[name].high.max())) for name in names}

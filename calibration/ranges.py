"""Four ways to a range, all from one histogram: min-max, entropy, percentile and mean squared error.

Which is best differs from model to model by more than INT8 itself costs, so that all are tried and the gate's own
measure chooses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from calibration.activations import BINS, Histogram

PERCENTILE = 99.999  # onnxruntime.quantization's default
LEVELS = 127  # symmetric int8: -127 to 127
_ENTROPY_BINS = 256  # a side, twice as many in all; the search takes the square of it
_CANDIDATES = 128


def minmax(histogram: Histogram) -> float:
    """The largest magnitude seen."""
    return histogram.largest


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
    "entropy": entropy,
    "percentile": percentile,
    "mse": mse,
}


def _edges(histogram: Histogram) -> NDArray[np.float64]:
    return np.linspace(0, histogram.largest, BINS + 1)

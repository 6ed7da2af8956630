"""The interval of a share of slices, which come in patients, also where it is 0 or 1: there a bootstrap has no spread.

Korn and Graubard (Survey Methodology 24, 1998): the exact interval of Clopper and Pearson, at the number of independent
slices that would let the share vary as much as the patients do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import LEVEL, Interval


def share(hits: NDArray[np.bool_], patients: Sequence[str]) -> Interval:
    """The share of slices that are hit, with its 95 % interval.

    Args:
        hits: (N,); patients: N names. Without any slice all three numbers are NaN.
    """
    if not len(hits):
        return Interval(math.nan, math.nan, math.nan)
    from scipy.stats import beta

    value = float(hits.mean())
    count = effective_count(hits, patients)
    found = value * count
    tail = (1 - LEVEL) / 2
    low = 0.0 if value == 0 else float(beta.ppf(tail, found, count - found + 1))
    high = 1.0 if value == 1 else float(beta.ppf(1 - tail, found + 1, count - found))
    return Interval(value, low, high)


def effective_count(hits: NDArray[np.bool_], patients: Sequence[str]) -> float:
    """How many independent slices say as much as these do: all of them at most; where nothing varies, the patients."""
    _, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    sizes, found = np.bincount(patient_of), np.bincount(patient_of, weights=hits)
    value, slices, groups = float(hits.mean()), len(hits), len(sizes)
    if value in (0.0, 1.0) or groups == 1:
        return float(groups)
    between = groups / (groups - 1) * float(((found - value * sizes) ** 2).sum()) / slices**2
    independent = value * (1 - value) / (slices - 1)
    return slices / max(1.0, between / independent)

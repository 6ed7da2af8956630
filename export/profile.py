"""How scores and brain shares are distributed on slices that are known, for `view` to say what drifts from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.spec import ICH_OUTPUT

LEVELS = (5, 25, 50, 75, 95)  # per cent


def distribution(logits: Mapping[str, NDArray[Any]], brain_shares: Sequence[float]) -> dict[str, Any]:
    """The distributions of a set of N slices, as plain JSON types, with four decimals.

    Args:
        logits: of the reference, by output name; brain_shares: N, or none where nobody measured them.
    """
    differences = np.diff(logits[ICH_OUTPUT].astype(np.float64), axis=1)[:, 0]
    found: dict[str, Any] = {"slices": len(differences), "ich_probability": _levels(1 / (1 + np.exp(-differences)))}
    if len(brain_shares):
        found["brain_share"] = _levels(np.asarray(brain_shares))
    return found


def _levels(values: NDArray[np.float64]) -> dict[str, float]:
    quantiles = np.percentile(values, LEVELS)
    return {str(level): round(float(value), 4) for level, value in zip(LEVELS, quantiles, strict=True)}

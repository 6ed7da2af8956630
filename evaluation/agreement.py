"""How far a precision's answers are from fp32's on one set of slices, by slice, by study and by head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits, softmax
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.aggregate import mean_of_highest
from dtvit_edge.spec import LOCATION_HEAD, OUTPUT_NAMES
from evaluation.limits import HIGH_QUANTILE
from evaluation.metrics import rows_by_patient

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class DecisionRule:
    """How logits become decisions.

    Attributes:
        threshold, study_threshold: the shipped ones, of the haemorrhage probability.
        top_places: over how many of the highest a study's probability is the mean.
        location_trained: whether the location head says anything.
    """

    threshold: float = 0.5
    study_threshold: float = 0.5
    top_places: int = 3
    location_trained: bool = True

    @classmethod
    def of(cls, bundle: Bundle) -> DecisionRule:
        """A bundle's own."""
        manifest, thresholds = bundle.manifest, bundle.thresholds
        trained = LOCATION_HEAD not in manifest.untrained_heads
        return cls(thresholds.slice.value, thresholds.study.value, manifest.spec.top_places, trained)


@dataclass(frozen=True)
class Agreement:
    """One head, or studies, of a precision against fp32; probabilities lie between 0 and 1.

    Attributes:
        slices: how many were compared, of slices or of studies.
        high_difference: the least difference that `HIGH_QUANTILE` of them do not exceed.
    """

    slices: int
    flips: int
    agreement: float
    largest_difference: float
    mean_difference: float
    high_difference: float


def slice_agreement(p: Probabilities, q: Probabilities, threshold: float) -> Agreement:
    """The haemorrhage head by slice: (N,) probabilities of fp32 and of the precision."""
    return _agreement(p >= threshold, q >= threshold, np.abs(p - q))


def study_agreement(p: Probabilities, q: Probabilities, studies: Sequence[str], rule: DecisionRule) -> Agreement:
    """The haemorrhage head by study, whose probability is the runtime's: the mean of its highest slices'.

    Args:
        studies: N names. A study has the slices that the set has of it.
    """
    groups = rows_by_patient(studies)
    a, b = (np.array([mean_of_highest(v[rows].tolist(), rule.top_places) for rows in groups]) for v in (p, q))
    return slice_agreement(a, b, rule.study_threshold)


def location_agreement(reference: Logits, logits: Logits, flagged: NDArray[np.bool_]) -> Agreement:
    """The location head on the slices that fp32 flags, of which there is at least one."""
    a, b = (softmax(values[OUTPUT_NAMES[1]])[flagged] for values in (reference, logits))
    return _agreement(a.argmax(1), b.argmax(1), np.abs(a - b).max(axis=1))


def logit_error(reference: Logits, logits: Logits) -> float:
    """Root mean square difference over the slices and both heads; infinite where a logit is not finite."""
    squares = [float(((reference[n].astype(np.float64) - logits[n]) ** 2).mean()) for n in OUTPUT_NAMES]
    total = sum(squares) / len(squares)
    return math.sqrt(total) if math.isfinite(total) else math.inf


def _agreement(before: NDArray[Any], after: NDArray[Any], difference: Probabilities) -> Agreement:
    flips = int((before != after).sum())
    high = float(np.sort(difference)[math.ceil(HIGH_QUANTILE * len(difference) - 1e-9) - 1])
    return Agreement(
        len(before), flips, 1 - flips / len(before), float(difference.max()), float(difference.mean()), high
    )

"""Thresholds tuned on a labelled set: at slice and at study level, with intervals by patient and reliability.

A study is a patient's slices here, and its probability the mean of its three highest, as `scoring.aggregate` has it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.bundle import REFERENCE_PRECISION, Threshold, Thresholds
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.scoring.aggregate import mean_of_highest
from evaluation.labelled_scores import Probabilities, ScoredSlices
from evaluation.labels import LabelledSlice, labels_digest
from evaluation.metrics import Interval, ich_figures
from evaluation.shares import share

LEAST = 10  # positives and negatives; fewer say nothing about a threshold
# Another batch or backend rounds in another way: a slice that sits exactly on the threshold would be lost there.
MARGIN = 1e-5
BINS = 10
TEMPERATURES = (0.01, 100.0)  # between which one is looked for


@dataclass(frozen=True)
class Bin:
    """Probabilities of one tenth of the range: their mean and the share that is positive; None where there are none."""

    low: float
    high: float
    count: int
    mean: float | None
    positive: float | None


@dataclass(frozen=True)
class Level:
    """Slices or studies that both the labels and the model say something of.

    Attributes:
        truth: (N,) 0 or 1; probability: (N,); patients: N names.
    """

    truth: NDArray[np.int64]
    probability: Probabilities
    patients: tuple[str, ...]

    @property
    def positives(self) -> int:
        """How many are positive."""
        return int(self.truth.sum())

    @property
    def negatives(self) -> int:
        """How many are negative."""
        return len(self.truth) - self.positives

    @property
    def too_few(self) -> bool:
        """True where a threshold cannot be tuned on it."""
        return min(self.positives, self.negatives) < LEAST


@dataclass(frozen=True)
class TunedLevel:
    """A level's threshold, and what it does to the labelled set that it was tuned on."""

    threshold: float
    positives: int
    negatives: int
    patients: int
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    reliability: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; what is not a number is None."""
        intervals = {
            name: [None if math.isnan(v) else v for v in (interval.value, interval.low, interval.high)]
            for name, interval in (
                ("sensitivity", self.sensitivity),
                ("specificity", self.specificity),
                ("auc", self.auc),
            )
        }
        counts = {"positives": self.positives, "negatives": self.negatives, "patients": self.patients}
        return counts | intervals | {"reliability": [vars(b) for b in self.reliability]}


@dataclass(frozen=True)
class Tuning:
    """The result: thresholds to be written, and the figures behind them.

    Attributes:
        study: None where there are too few studies; `notes` say so.
    """

    thresholds: Thresholds
    slice: TunedLevel
    study: TunedLevel | None
    notes: tuple[str, ...]


def tune(scored: ScoredSlices, sensitivity: float, *, seed: int = 0) -> Tuning:
    """The highest thresholds that keep a sensitivity, at both levels.

    Args:
        sensitivity: asked of the labelled positives, above 0 and at most 1.
        seed: of the bootstrap.

    Raises:
        ConfigError: fewer than `LEAST` positive or negative slices, or a sensitivity that is none.
        VerdictError: a positive slice of probability 0 would have to be called positive.
    """
    check_asked(scored.slices, sensitivity)
    slices, studies = slice_level(scored), study_level(scored)
    if slices.too_few:
        raise ConfigError(_too_few(slices.positives, slices.negatives, "labelled and show brain"))
    notes = []
    if scored.thin:
        notes.append(
            f"{scored.thin} slices are thin: `score` averages such slices before the model sees them, and here each "
            "was seen alone. Compare the thresholds with what `score` gives for these studies"
        )
    skipped = np.isnan(scored.probability)
    if skipped.any():
        positive = sum(bool(s.ich) for s, skip in zip(scored.slices, skipped, strict=True) if skip)
        notes.append(
            f"{skipped.sum()} slices show no brain and are left out, as `score` skips them; {positive} of them are "
            "labelled positive"
        )
    slice_tuned = _tune_level(slices, sensitivity, seed)
    study_tuned = None if studies.too_few else _tune_level(studies, sensitivity, seed)
    if study_tuned is None:
        notes.append(
            f"{studies.positives} positive and {studies.negatives} negative studies, at least {LEAST} of each are "
            f"needed: the threshold of a study stays {Threshold().value:g}, not tuned"
        )
    temperature = fit_temperature(scored)
    if temperature is None:
        notes.append("no temperature: the labels are told apart too well, or not at all")
    evidence = {
        "sensitivity_asked": sensitivity,
        "labels": labels_digest(scored.slices),
        "skipped": int(skipped.sum()),
        "thin": scored.thin,
        "precision": REFERENCE_PRECISION,
        "backend": scored.backend,
        "seed": seed,
        "slice": slice_tuned.to_dict(),
        "study": None if study_tuned is None else study_tuned.to_dict(),
    }
    thresholds = Thresholds(
        _threshold(slice_tuned, sensitivity, "slices"),
        Threshold() if study_tuned is None else _threshold(study_tuned, sensitivity, "studies"),
        temperature,
        evidence,
    )
    return Tuning(thresholds, slice_tuned, study_tuned, tuple(notes))


def check_asked(slices: Sequence[LabelledSlice], sensitivity: float) -> None:
    """What can be refused before minutes of scoring.

    Raises:
        ConfigError: a sensitivity that is none, or fewer than `LEAST` positive or negative labels.
    """
    if not 0 < sensitivity <= 1:
        raise ConfigError(f"the sensitivity is {sensitivity}, expected above 0 and at most 1")
    positives, negatives = (sum(s.ich is ich for s in slices) for ich in (True, False))
    if min(positives, negatives) < LEAST:
        raise ConfigError(_too_few(positives, negatives, "labelled"))


def _too_few(positives: int, negatives: int, so: str) -> str:
    return (
        f"{positives} positive and {negatives} negative slices are {so}; at least {LEAST} of each are needed to tune "
        "a threshold"
    )


def slice_level(scored: ScoredSlices) -> Level:
    """Every slice that is labelled and was scored."""
    kept = [i for i, s in enumerate(scored.slices) if s.ich is not None and not np.isnan(scored.probability[i])]
    truth = np.array([bool(scored.slices[i].ich) for i in kept], dtype=np.int64)
    return Level(truth, scored.probability[kept], tuple(scored.slices[i].patient for i in kept))


def study_level(scored: ScoredSlices) -> Level:
    """Every patient of whom a slice was scored, and who is positive (a slice is) or negative (all slices are)."""
    labels: dict[str, list[bool | None]] = defaultdict(list)
    scores: dict[str, list[float]] = defaultdict(list)
    for labelled, value in zip(scored.slices, scored.probability.tolist(), strict=True):
        labels[labelled.patient].append(labelled.ich)
        if not math.isnan(value):
            scores[labelled.patient].append(value)
    patients = [p for p in scores if True in labels[p] or None not in labels[p]]
    truth = np.array([True in labels[p] for p in patients], dtype=np.int64)
    means = [mean_of_highest(scores[p], scored.top_places) for p in patients]
    return Level(truth, np.array(means, dtype=np.float64), tuple(patients))


def highest_threshold(level: Level, sensitivity: float) -> float:
    """The highest threshold at which at least this share of the positives is called positive, a margin below the last.

    Raises:
        VerdictError: it would have to be 0, at which everything is positive.
    """
    ranked = np.sort(level.probability[level.truth == 1])[::-1]
    # 0.95 * 20 is a little more than 19 in floating point, and 19 are enough.
    needed = math.ceil(sensitivity * len(ranked) - 1e-9)
    least = float(ranked[needed - 1])
    below = level.probability[level.probability < least]
    gap = least - float(below.max(initial=0.0))
    threshold = least - min(gap / 2, MARGIN)
    if not threshold > 0:
        raise VerdictError(
            f"a sensitivity of {sensitivity:g} needs a threshold of 0, at which everything is positive: the model "
            "gives labelled positives no probability"
        )
    return min(threshold, float(np.nextafter(1.0, 0.0)))


def reliability(level: Level) -> tuple[Bin, ...]:
    """Ten bins of equal width: what was said, and what was so."""
    places = np.minimum((level.probability * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        mean = float(level.probability[inside].mean()) if count else None
        positive = float(level.truth[inside].mean()) if count else None
        bins.append(Bin(place / BINS, (place + 1) / BINS, count, mean, positive))
    return tuple(bins)


def fit_temperature(scored: ScoredSlices) -> float | None:
    """The T for which sigmoid(logit / T) makes the labelled slices likeliest; None where the search has no end."""
    from scipy.optimize import minimize_scalar

    kept = [i for i, s in enumerate(scored.slices) if s.ich is not None and not np.isnan(scored.logit[i])]
    signs = np.array([1.0 if scored.slices[i].ich else -1.0 for i in kept])
    margins = signs * scored.logit[kept]

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -margins / math.exp(log_temperature)).mean())

    low, high = (math.log(t) for t in TEMPERATURES)
    best = float(minimize_scalar(loss, bounds=(low, high), method="bounded").x)
    at_an_end = min(best - low, high - best) < 0.01
    return None if at_an_end else math.exp(best)


def _tune_level(level: Level, sensitivity: float, seed: int) -> TunedLevel:
    threshold = highest_threshold(level, sensitivity)
    head = ich_figures(level.truth, level.probability, level.patients, threshold=threshold, seed=seed)
    auc = head.figures["auc"]
    if auc.low == auc.high or auc.value == 1:  # no resample of classes that are told apart tells how they may overlap
        auc = Interval(auc.value, math.nan, math.nan)
    right = (level.probability >= threshold) == (level.truth == 1)
    sensitivity_found, specificity = (
        share(right[of], [level.patients[i] for i in np.flatnonzero(of)]) for of in (level.truth == 1, level.truth == 0)
    )
    return TunedLevel(
        threshold,
        level.positives,
        level.negatives,
        head.patients,
        sensitivity_found,
        specificity,
        auc,
        reliability(level),
    )


def _threshold(tuned: TunedLevel, sensitivity: float, what: str) -> Threshold:
    source = (
        f"tuned for a sensitivity of {sensitivity:g} on {tuned.positives} positive and {tuned.negatives} negative "
        f"{what} of {tuned.patients} patients"
    )
    return Threshold(tuned.threshold, source)

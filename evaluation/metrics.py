"""Figures of both heads with bootstrap confidence intervals by patient; the formulas are scikit-learn's.

Slices of one patient are nearly the same image, so that the bootstrap draws patients, not slices: an interval over
slices would be far too narrow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import LOCATION_LABELS

RESAMPLES = 1000
LEVEL = 0.95

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval; NaN where the data cannot say (one class alone has no AUC)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class HeadFigures:
    """What one head showed.

    Attributes:
        figures: by name; of the location head also per class, as `recall_lobar`.
        confusion: rows are the truth, columns the prediction, in label order.
        slices, patients: how many were evaluated.
        by_patient: share of each patient's slices that were right, in order of first appearance.
    """

    figures: dict[str, Interval]
    confusion: tuple[tuple[int, ...], ...]
    slices: int
    patients: int
    by_patient: tuple[float, ...]


def ich_figures(
    truth: Labels,
    probability: Probabilities,
    patients: Sequence[str],
    *,
    threshold: float = 0.5,
    seed: int = 0,
    resamples: int | None = None,
) -> HeadFigures:
    """The haemorrhage head: accuracy, precision, recall (sensitivity), F1, specificity and AUC.

    Args:
        truth: (N,) 0 or 1; probability: (N,) of a haemorrhage; patients: N names.
        resamples: of the bootstrap, which takes seconds; None is `RESAMPLES`, 0 leaves the intervals NaN.
    """

    def figures(y: Labels, p: Probabilities) -> dict[str, float]:
        said = (p >= threshold).astype(np.int64)
        precision, recall, f1, _ = precision_recall_fscore_support(y, said, labels=[0, 1], zero_division=np.nan)
        return {
            "accuracy": float(accuracy_score(y, said)),
            "precision": float(precision[1]),
            "recall": float(recall[1]),
            "f1": float(f1[1]),
            "specificity": float(recall[0]),
            "auc": auc(y, p),
        }

    said = (probability >= threshold).astype(np.int64)
    return _with_intervals(truth, probability, said, patients, figures, classes=2, seed=seed, resamples=resamples)


def location_figures(
    truth: Labels,
    probabilities: Probabilities,
    patients: Sequence[str],
    *,
    seed: int = 0,
    resamples: int | None = None,
) -> HeadFigures:
    """The location head: accuracy, macro precision, recall, F1 and one-against-rest AUC, and the same per class.

    Args:
        truth: (N,) indices into `LOCATION_LABELS`; probabilities: (N, 3); resamples: as of `ich_figures`.
    """
    classes = range(len(LOCATION_LABELS))

    def figures(y: Labels, p: Probabilities) -> dict[str, float]:
        said = p.argmax(axis=1)
        by_name = {"accuracy": float(accuracy_score(y, said))}
        scores = precision_recall_fscore_support(y, said, labels=list(classes), zero_division=np.nan)
        per_class = {name: values.tolist() for name, values in zip(("precision", "recall", "f1"), scores, strict=False)}
        per_class["auc"] = [auc((y == c).astype(np.int64), p[:, c]) for c in classes]
        for name, values in per_class.items():
            by_name[f"{name}_macro"] = float(np.mean(values))
            by_name |= {f"{name}_{label}": value for label, value in zip(LOCATION_LABELS, values, strict=True)}
        return by_name

    said = probabilities.argmax(axis=1)
    return _with_intervals(
        truth, probabilities, said, patients, figures, classes=len(LOCATION_LABELS), seed=seed, resamples=resamples
    )


def auc(truth: Labels, probability: Probabilities) -> float:
    """Area under the ROC curve of (N,) probabilities; NaN of one class alone."""
    return float(roc_auc_score(truth, probability)) if 0 < truth.sum() < len(truth) else math.nan


def location_auc(truth: Labels, probabilities: Probabilities) -> float:
    """Mean of each location's AUC against the rest, of (N, 3) probabilities; NaN where one is not there."""
    return float(
        np.mean([auc((truth == c).astype(np.int64), probabilities[:, c]) for c in range(len(LOCATION_LABELS))])
    )


@dataclass(frozen=True)
class Answers:
    """What models said of the same slices.

    Attributes:
        truth: (N,) labels.
        models: probabilities by each of several models, such as those of several seeds; figures are means over them.
        patients: N names.
    """

    truth: Labels
    models: Sequence[Probabilities]
    patients: Sequence[str]


def mean_figure(figure: Callable[[Labels, Probabilities], float], answers: Answers) -> Interval:
    """A figure of labels and probabilities, such as `auc`, with its interval over patients."""
    return _interval(_mean(figure, answers, slice(None)), _drawn(figure, answers, None, 0))


def difference(
    figure: Callable[[Labels, Probabilities], float], ones: Answers, others: Answers, *, resamples: int | None = None
) -> Interval:
    """A figure of `ones` less that of `others`, with its interval over patients.

    Of the same patients' slices it is taken on the same draws for both, so that what is hard about them is hard for
    both; of different ones the draws are independent.

    Args:
        resamples: of the bootstrap; None is `RESAMPLES`.
    """
    paired = list(ones.patients) == list(others.patients)
    value = _mean(figure, ones, slice(None)) - _mean(figure, others, slice(None))
    drawn = _drawn(figure, ones, resamples, 0) - _drawn(figure, others, resamples, 0 if paired else 1)
    return _interval(value, drawn)


def rows_by_patient(patients: Sequence[str]) -> list[NDArray[np.int64]]:
    """The rows of each patient, in order of first appearance."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, patient in enumerate(patients):
        rows[patient].append(i)
    return [np.array(indices) for indices in rows.values()]


def _mean(figure: Callable[[Labels, Probabilities], float], answers: Answers, rows: NDArray[np.int64] | slice) -> float:
    return float(np.mean([figure(answers.truth[rows], model[rows]) for model in answers.models]))


def _drawn(
    figure: Callable[[Labels, Probabilities], float], answers: Answers, resamples: int | None, seed: int
) -> NDArray[np.float64]:
    """The figure of each resample of the patients; NaN where it does not exist."""
    return np.array([_mean(figure, answers, rows) for rows in _draws(answers.patients, resamples, seed)])


def _draws(patients: Sequence[str], resamples: int | None, seed: int) -> Iterator[NDArray[np.int64]]:
    """The rows of each resample of the patients."""
    groups = rows_by_patient(patients)
    rng = np.random.default_rng(seed)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # checked once, for all resamples
        for _ in range(RESAMPLES if resamples is None else resamples):
            yield np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])


def _with_intervals(
    truth: Labels,
    probability: Probabilities,
    said: Labels,
    patients: Sequence[str],
    figures: Callable[[Labels, Probabilities], dict[str, float]],
    *,
    classes: int,
    seed: int,
    resamples: int | None = None,
) -> HeadFigures:
    if not len(truth) == len(probability) == len(patients) > 0:
        raise ConfigError(f"{len(truth)} labels, {len(probability)} probabilities and {len(patients)} patients")
    if not np.isfinite(probability).all():
        raise ConfigError("a probability is not finite")
    groups = rows_by_patient(patients)
    drawn = [figures(truth[rows], probability[rows]) for rows in _draws(patients, resamples, seed)]
    matrix = confusion_matrix(truth, said, labels=list(range(classes)))
    return HeadFigures(
        {n: _interval(v, [one[n] for one in drawn]) for n, v in figures(truth, probability).items()},
        tuple(tuple(int(n) for n in row) for row in matrix),
        len(truth),
        len(groups),
        tuple(float(np.mean(truth[group] == said[group])) for group in groups),
    )


def _interval(value: float, drawn: Sequence[float] | NDArray[np.float64]) -> Interval:
    """Percentile interval over the resamples in which the figure exists."""
    known = [d for d in drawn if not math.isnan(d)]
    if math.isnan(value) or not known:
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))

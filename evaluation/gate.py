"""The gate: may a lower precision stand in for fp32? It can say no, and it can say that it does not know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.spec import ICH_HEAD, LOCATION_HEAD, OUTPUT_NAMES
from evaluation.limits import DEFAULT_LIMITS, Limits
from evaluation.metrics import ich_figures

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
NOT_ASSESSED = "not assessed"
_WORST = 5

Logits = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class SliceLabels:
    """What is known of each of N slices.

    Attributes:
        digests: sha256 of each slice's model bytes: slices are named by nothing else.
        patients: N names, for the intervals; ich: (N,) 1, 0 or -1 where not labelled.
        location: (N,) an index into `LOCATION_LABELS`, -1 where not labelled; None where nobody said any. The gate
            itself asks for agreement with fp32 alone.
    """

    digests: tuple[str, ...]
    patients: tuple[str, ...]
    ich: NDArray[np.int64]
    location: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class HeadAgreement:
    """One head of a precision against fp32; probabilities lie between 0 and 1."""

    slices: int
    flips: int
    agreement: float
    largest_difference: float
    mean_difference: float


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one precision.

    Attributes:
        verdict: `PASSED`, `FAILED` or `INCONCLUSIVE`; reasons: why not passed, in words.
        location: None where fp32 flags no slice, or the head is untrained.
        auc_reference, auc: None where the labels hold one class or none.
        sensitivity, specificity: (value, low, high) at the threshold; None as above.
        rms: root mean square logit difference over both heads.
        worst: (digest, |difference of probability|) of the slices that differ most.
    """

    precision: str
    verdict: str
    reasons: tuple[str, ...]
    ich: HeadAgreement
    location: HeadAgreement | None
    auc_reference: float | None
    auc: float | None
    sensitivity: tuple[float, float, float] | None
    specificity: tuple[float, float, float] | None
    rms: float
    worst: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for the manifest."""
        return asdict(self)


def compare_with_fp32(
    precision: str,
    reference: Logits,
    logits: Logits,
    labels: SliceLabels,
    *,
    threshold: float,
    location_trained: bool = True,
    limits: Limits = DEFAULT_LIMITS,
    seed: int = 0,
    intervals: bool = True,
) -> Verdict:
    """Compare a precision's logits with fp32's on the same slices, and decide whether it passes.

    Args:
        reference, logits: (N, 2) and (N, 3) by output name.
        threshold: the shipped one, of the haemorrhage probability.
        seed: of the bootstrap; intervals: False saves its seconds and leaves the intervals NaN.
    """
    name_ich, name_location = OUTPUT_NAMES
    p, q = softmax(reference[name_ich])[:, 1], softmax(logits[name_ich])[:, 1]
    flagged = p >= threshold
    ich = _head(flagged, q >= threshold, np.abs(p - q))
    location = None
    if location_trained and flagged.any():
        a, b = softmax(reference[name_location])[flagged], softmax(logits[name_location])[flagged]
        location = _head(a.argmax(1), b.argmax(1), np.abs(a - b).max(axis=1))
    before = _labelled(p, labels, threshold, seed, resamples=0)
    after = _labelled(q, labels, threshold, seed, resamples=None if intervals else 0)
    # Decisions that are compared would agree: NaN is below every threshold, for both of them.
    asked = (("a logit", logits), ("a logit of fp32", reference))
    reasons = [f"{what} is not finite" for what, said in asked if not all(np.isfinite(v).all() for v in said.values())]
    for head, agreement in ((ICH_HEAD, ich), (LOCATION_HEAD, location)):
        if agreement and not agreement.agreement >= limits.agreement:
            reasons.append(f"{head}: {agreement.agreement:.2%} of decisions agree, {limits.agreement:.2%} are asked")
    if before and after and not abs(before["auc"][0] - after["auc"][0]) <= limits.auc:
        reasons.append(f"AUC {after['auc'][0]:.4f} against {before['auc'][0]:.4f}, {limits.auc:g} is allowed")
    verdict = FAILED if reasons else PASSED
    if len(p) < limits.slices:
        reasons.append(f"{len(p)} slices, {limits.slices} are asked")
        verdict = FAILED if verdict == FAILED else INCONCLUSIVE
    order = np.argsort(-np.abs(p - q), kind="stable")[:_WORST]
    return Verdict(
        precision,
        verdict,
        tuple(reasons),
        ich,
        location,
        before["auc"][0] if before else None,
        after["auc"][0] if after else None,
        after["recall"] if after else None,
        after["specificity"] if after else None,
        logit_error(reference, logits),
        tuple((labels.digests[i], float(abs(p[i] - q[i]))) for i in order),
    )


def logit_error(reference: Logits, logits: Logits) -> float:
    """Root mean square difference over the slices and both heads; infinite where a logit is not finite."""
    squares = [float(((reference[n].astype(np.float64) - logits[n]) ** 2).mean()) for n in OUTPUT_NAMES]
    total = sum(squares) / len(squares)
    return math.sqrt(total) if math.isfinite(total) else math.inf


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64, by row."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


def _head(before: NDArray[Any], after: NDArray[Any], difference: NDArray[np.float64]) -> HeadAgreement:
    flips = int((before != after).sum())
    return HeadAgreement(len(before), flips, 1 - flips / len(before), float(difference.max()), float(difference.mean()))


def _labelled(
    probability: NDArray[np.float64], labels: SliceLabels, threshold: float, seed: int, *, resamples: int | None
) -> dict[str, tuple[float, float, float]] | None:
    """Figures against the labels, each with its interval; None where those hold one class or none."""
    kept = np.flatnonzero(labels.ich >= 0)
    if len(set(labels.ich[kept].tolist())) < 2 or not np.isfinite(probability[kept]).all():
        return None
    patients: Sequence[str] = [labels.patients[i] for i in kept]
    head = ich_figures(
        labels.ich[kept], probability[kept], patients, threshold=threshold, seed=seed, resamples=resamples
    )
    return {name: (f.value, f.low, f.high) for name, f in head.figures.items()}

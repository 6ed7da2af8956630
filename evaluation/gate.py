"""The gate: may a lower precision stand in for fp32? It can say no, and it can say that it does not know.

It judges at home, on slices like those that gave the ranges, under stated shifts of the scanner (`scanner_shifts`), and
on another site's slices where there are any. A precision passes where it passes everywhere. With a limit switched off
it is not gated, whatever its figures are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits, softmax
from dtvit_edge.bundle.verdicts import FAILED as FAILED
from dtvit_edge.bundle.verdicts import INCONCLUSIVE as INCONCLUSIVE
from dtvit_edge.bundle.verdicts import NOT_ASSESSED as NOT_ASSESSED
from dtvit_edge.bundle.verdicts import NOT_GATED as NOT_GATED
from dtvit_edge.bundle.verdicts import PASSED as PASSED
from dtvit_edge.spec import ICH_HEAD, ICH_OUTPUT, LOCATION_HEAD
from evaluation.agreement import (
    Agreement,
    DecisionRule,
    Probabilities,
    location_agreement,
    logit_error,
    slice_agreement,
    study_agreement,
)
from evaluation.limits import DEFAULT_LIMITS, HIGH_QUANTILE, Limits, exceeds
from evaluation.metrics import ich_figures

HOME, OTHER = "home", "another site"
STUDIES = "studies"
DEFAULT_RULE = DecisionRule()
_WORST = 5
_FIRST = (FAILED, INCONCLUSIVE, PASSED)  # the worst of several verdicts comes first


@dataclass(frozen=True)
class SliceLabels:
    """What is known of each of N slices.

    Attributes:
        digests: sha256 of each slice's model bytes: slices are named by nothing else.
        patients: N names, for the intervals, and for studies: a study is a patient's slices here.
        ich: (N,) 1, 0 or -1 where not labelled.
        location: (N,) an index into `LOCATION_LABELS`, -1 where not labelled; None where nobody said any. The gate
            itself asks for agreement with fp32 alone.
    """

    digests: tuple[str, ...]
    patients: tuple[str, ...]
    ich: NDArray[np.int64]
    location: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Compared:
    """A precision's logits and fp32's on the same slices, away from home.

    Attributes:
        name: of the shift, or `OTHER`; reference, logits: (N, 2) and (N, 3) by output name.
    """

    name: str
    reference: Logits
    logits: Logits
    labels: SliceLabels


@dataclass(frozen=True)
class SetVerdict:
    """What the gate says of one precision on one set of slices.

    Attributes:
        name: of the set; verdict: `PASSED`, `FAILED` or `INCONCLUSIVE`; reasons: why not passed, in words.
        location: None where fp32 flags no slice, or the head is untrained.
        studies: the haemorrhage flag by study; None where a logit is not finite.
        rms: root mean square logit difference over both heads.
    """

    name: str
    verdict: str
    reasons: tuple[str, ...]
    ich: Agreement
    location: Agreement | None
    studies: Agreement | None
    rms: float


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one precision.

    Attributes:
        verdict: `PASSED`, `FAILED`, `INCONCLUSIVE` or `NOT_GATED`; reasons: why not passed, in words.
        ich, location, studies, rms: at home, as in `SetVerdict`.
        auc_reference, auc: None where the labels hold one class or none.
        sensitivity, specificity: (value, low, high) at the threshold; None as above.
        worst: (digest, |difference of probability|) of the slices that differ most.
        elsewhere: under each shift of the scanner, and on another site's slices.
        ran_on: what computed the logits, by library, version and hint.
    """

    precision: str
    verdict: str
    reasons: tuple[str, ...]
    ich: Agreement
    location: Agreement | None
    auc_reference: float | None
    auc: float | None
    sensitivity: tuple[float, float, float] | None
    specificity: tuple[float, float, float] | None
    rms: float
    worst: tuple[tuple[str, float], ...]
    studies: Agreement | None = None
    elsewhere: tuple[SetVerdict, ...] = ()
    ran_on: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for the manifest; None for a figure that is not finite, which JSON has no word for."""
        return cast("dict[str, Any]", _finite(asdict(self)))


def compare_with_fp32(
    precision: str,
    reference: Logits,
    logits: Logits,
    labels: SliceLabels,
    *,
    rule: DecisionRule = DEFAULT_RULE,
    limits: Limits = DEFAULT_LIMITS,
    elsewhere: Sequence[Compared] = (),
    seed: int = 0,
    intervals: bool = True,
    ran_on: str = "",
) -> Verdict:
    """Compare a precision's logits with fp32's on the same slices, and decide whether it passes.

    Args:
        reference, logits: (N, 2) and (N, 3) by output name, at home.
        elsewhere: the same under shifts of the scanner and on another site's slices.
        seed: of the bootstrap; intervals: False saves its seconds and leaves the intervals NaN.
    """
    p, q = _probabilities(reference), _probabilities(logits)
    before = _labelled(p, labels, rule.threshold, seed, resamples=0)
    after = _labelled(q, labels, rule.threshold, seed, resamples=None if intervals else 0)
    home = _judge(Compared(HOME, reference, logits, labels), rule, limits.agreement, limits.difference, limits.slices)
    away = tuple(judge_away(compared, rule, limits) for compared in elsewhere)
    reasons, verdicts = list(home.reasons), [home.verdict, *(one.verdict for one in away)]
    if before and after and not abs(before["auc"][0] - after["auc"][0]) <= limits.auc:
        reasons.insert(0, f"AUC {after['auc'][0]:.4f} against {before['auc'][0]:.4f}, {limits.auc:g} is allowed")
        verdicts.append(FAILED)
    places: dict[str, list[str]] = {}
    for reason, name in ((reason, one.name) for one in away for reason in one.reasons):
        places.setdefault(reason, []).append(name)
    reasons += [f"{', '.join(names)}: {reason}" for reason, names in places.items()]
    verdict = min(verdicts, key=_FIRST.index)
    if verdict == PASSED and limits.off:
        verdict = NOT_GATED
        reasons.append(f"limits were switched off: {', '.join(limits.off)}")
    order = np.argsort(-np.abs(p - q), kind="stable")[:_WORST]
    return Verdict(
        precision,
        verdict,
        tuple(reasons),
        home.ich,
        home.location,
        before["auc"][0] if before else None,
        after["auc"][0] if after else None,
        after["recall"] if after else None,
        after["specificity"] if after else None,
        home.rms,
        tuple((labels.digests[i], float(abs(p[i] - q[i]))) for i in order),
        home.studies,
        away,
        ran_on,
    )


def judge_away(compared: Compared, rule: DecisionRule, limits: Limits) -> SetVerdict:
    """One set's verdict with the limits that hold away from home."""
    return _judge(compared, rule, limits.shift_agreement, limits.difference, limits.least_elsewhere)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _judge(compared: Compared, rule: DecisionRule, agreement: float, difference: float, least: int) -> SetVerdict:
    """One set's verdict; `agreement`, `difference` and `least` are the limits that hold for it."""
    p, q = _probabilities(compared.reference), _probabilities(compared.logits)
    flagged = p >= rule.threshold
    ich, location = slice_agreement(p, q, rule.threshold), None
    if rule.location_trained and flagged.any():
        location = location_agreement(compared.reference, compared.logits, flagged)
    # Decisions that are compared would agree: NaN is below every threshold, for both of them.
    asked = (("a logit", compared.logits), ("a logit of fp32", compared.reference))
    failed = [f"{what} is not finite" for what, said in asked if not all(np.isfinite(v).all() for v in said.values())]
    studies = None if failed else study_agreement(p, q, compared.labels.patients, rule)
    unsure: list[str] = []
    for what, heads in ((ICH_HEAD, ich), (LOCATION_HEAD, location), (STUDIES, studies)):
        if heads is not None:
            _sort_in(failed, unsure, exceeds(heads.flips, heads.slices, 1 - agreement),
                     f"{what}: {heads.agreement:.2%} of decisions agree, {agreement:.2%} are asked")  # fmt: skip
    _sort_in(failed, unsure, exceeds(int((np.abs(p - q) > difference).sum()), len(p), 1 - HIGH_QUANTILE),
             f"{ICH_HEAD}: {HIGH_QUANTILE:.1%} of the probabilities differ by at most {ich.high_difference:.3f}, "
             f"{difference:g} is allowed")  # fmt: skip
    if len(p) < least:
        unsure.append(f"{len(p)} slices, {least} are asked")
    verdict = FAILED if failed else INCONCLUSIVE if unsure else PASSED
    rms = logit_error(compared.reference, compared.logits)
    return SetVerdict(compared.name, verdict, (*failed, *unsure), ich, location, studies, rms)


def _sort_in(failed: list[str], unsure: list[str], broken: bool | None, reason: str) -> None:
    if broken is None:
        unsure.append(f"{reason}; too few to tell")
    elif broken:
        failed.append(reason)


def _probabilities(logits: Logits) -> Probabilities:
    shares: Probabilities = softmax(logits[ICH_OUTPUT])[:, 1]
    return shares


def _labelled(
    probability: Probabilities, labels: SliceLabels, threshold: float, seed: int, *, resamples: int | None
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

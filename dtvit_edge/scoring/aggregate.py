"""Slices to series to study.

A series' probability is the mean of its three highest slices, of those there are if fewer; a study's is its highest
suitable series'. An absence of slices is never a negative.
"""

from __future__ import annotations

from collections.abc import Sequence

from dtvit_edge.reasons import REASONS, Status
from dtvit_edge.results import SeriesScore, SliceScore, StudyScore, likeliest_location

TOP_SLICES = 3


def series_score(rows: Sequence[SliceScore], *, gap: bool) -> SeriesScore:
    """The result of one suitable series.

    Args:
        rows: its slices, at least one; those that were skipped count as slices, but not as scored.
        gap: what `dicom.geometry.has_gap` said of it.
    """
    scored = [row for row in rows if row.ich_probability is not None]
    # Of equals the first by path and frame, so that the order of reading changes nothing.
    ranked = sorted(scored, key=lambda r: (-_probability(r), r.path, r.frame))[:TOP_SLICES]
    troubles = {row.reason for row in rows if row.status in (Status.REFUSED, Status.ERROR)}
    locations = [row.location_probabilities for row in ranked if row.location_probabilities is not None]
    return SeriesScore(
        study_uid=rows[0].study_uid,
        series_uid=rows[0].series_uid,
        slices=len(rows),
        scored=len(scored),
        ich_probability=_mean([_probability(row) for row in ranked]) if ranked else None,
        location_probabilities=(
            (
                _mean([p[0] for p in locations]),
                _mean([p[1] for p in locations]),
                _mean([p[2] for p in locations]),
            )
            if locations
            else None
        ),
        top=ranked[0] if ranked else None,
        gap=gap,
        troubles=tuple(sorted(troubles)),
    )


def study_score(
    study_uid: str, series: Sequence[SeriesScore], rows: Sequence[SliceScore], *, threshold: float
) -> StudyScore:
    """The result of one study.

    Args:
        series: its suitable series.
        rows: all rows of the study, the unsuitable and unreadable ones included.
        threshold: at or above which a probability is positive.
    """
    scored = sum(row.status is Status.SCORED for row in rows)
    best = max(
        (s for s in series if s.ich_probability is not None),
        key=lambda s: s.ich_probability or 0.0,
        default=None,
    )
    reasons = _study_reasons(series, rows, best)
    if best is None or best.ich_probability is None:
        return StudyScore(study_uid, Status.NOT_SCORED, ";".join(reasons), None, None, "", len(rows), scored, "")
    incomplete = bool({"gap", "slice_refused", "slice_error"} & set(reasons))
    positive = best.ich_probability >= threshold
    location = ""
    if positive and best.location_probabilities is not None:
        location = likeliest_location(best.location_probabilities)
    return StudyScore(
        study_uid=study_uid,
        status=Status.PARTIAL if incomplete else Status.SCORED,
        reason=";".join(reasons),
        flagged=positive if positive or not incomplete else None,
        ich_probability=best.ich_probability,
        location=location,
        slices=len(rows),
        scored=scored,
        top_sop_uid=best.top.sop_uid if best.top else "",
    )


def _study_reasons(series: Sequence[SeriesScore], rows: Sequence[SliceScore], best: SeriesScore | None) -> list[str]:
    """The study's own reasons, in a fixed order.

    A series that is set aside as a whole (contrast, bone kernel, another modality) leaves the study complete; a
    single image that is refused or cannot be read does not, wherever it lies.
    """
    reasons = []
    if best is None:
        reasons.append("nothing_scored" if series else "no_suitable_series")
    if any(s.gap for s in series):
        reasons.append("gap")
    if any(r.status is Status.REFUSED and not REASONS[r.reason].whole_series for r in rows):
        reasons.append("slice_refused")
    if any(r.status is Status.ERROR for r in rows):
        reasons.append("slice_error")
    if best is not None and best.scored < TOP_SLICES:
        reasons.append("few_slices")
    return reasons


def _probability(row: SliceScore) -> float:
    return -1.0 if row.ich_probability is None else row.ich_probability


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

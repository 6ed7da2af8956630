"""What an outcome is worth, by the contract alone: was a 0 earned, and where not, could it have been seen?

A positive study with a fault may end as 1, as partial or unscored, or stop the run. `scored` with flag 0 is a silent
negative, save where slices at one end of the scan are gone altogether and what is left still is a head from 80 mm
below up to the vertex: then nothing in the files says that more was scanned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.measure.faults.running import Outcome
from benchmarks.measure.faults.studies import Delivery, Scan
from dtvit_edge.reasons import REASONS

# The contract's numbers, not the program's: a judge that imported them would follow it into an error.
SPAN_MM = 80.0
VERTEX_SHARE = 0.5

FLAGGED, PARTIAL, NOT_SCORED, STOPPED = "flagged 1", "partial", "not scored", "run ended"
END_DROPPED, END_SET_ASIDE = "0, end dropped", "0, end set aside"
SILENT, CRASHED, STALLED, IMPOSSIBLE = "0, silent", "crashed", "stalled", "no finite result"
SCORED = "scored 0"
FAILURES = (SILENT, CRASHED, STALLED, IMPOSSIBLE)
OUTCOMES = (FLAGGED, SCORED, PARTIAL, NOT_SCORED, STOPPED, END_DROPPED, END_SET_ASIDE, *FAILURES)
_WORST_FIRST = (*FAILURES, END_SET_ASIDE, END_DROPPED, SCORED, FLAGGED, PARTIAL, NOT_SCORED, STOPPED)


@dataclass(frozen=True)
class Verdict:
    """One of `OUTCOMES`, and the words that explain it."""

    outcome: str
    words: str

    @property
    def failed(self) -> bool:
        """A requirement is missed."""
        return self.outcome in FAILURES


def judge(delivery: Delivery, outcome: Outcome, *, positive: bool) -> Verdict:
    """The worst that is said of the patient's study or, where a fault split it, studies.

    Args:
        positive: the scan shows blood, so that a 0 has to be explained.
    """
    if outcome.error:
        name = STOPPED if outcome.ours else STALLED if outcome.error.startswith("Stalled") else CRASHED
        return Verdict(name, outcome.error)
    verdicts = [
        _study(delivery, study, outcome, positive)
        for study in outcome.studies
        if study["study_uid"] not in delivery.donors
    ]
    if not verdicts:
        return Verdict(NOT_SCORED, f"no study, exit status {outcome.exit_status}")
    return min(verdicts, key=lambda v: _WORST_FIRST.index(v.outcome))


def _study(delivery: Delivery, study: dict[str, str], outcome: Outcome, positive: bool) -> Verdict:
    words = f"{study['status']}|{study['reason']}|{study['flagged']}|{study['ich_probability']}"
    words += f"|{study['scored']}/{study['slices']}"
    if study["ich_probability"] and not math.isfinite(float(study["ich_probability"])):
        return Verdict(IMPOSSIBLE, words)
    if study["flagged"] == "1":
        return Verdict(FLAGGED, words)
    if study["status"] != "scored":
        return Verdict(PARTIAL if study["status"] == "partial" else NOT_SCORED, words)
    if not positive:
        return Verdict(SCORED, words)
    rows = [row for row in outcome.slices if row["study_uid"] == study["study_uid"]]
    others = [row for row in outcome.slices if row["study_uid"] != study["study_uid"]]
    excuse = _excuse(delivery, rows, others)
    return Verdict(excuse or SILENT, words)


def _excuse(delivery: Delivery, rows: list[dict[str, str]], others: list[dict[str, str]]) -> str | None:
    """`END_DROPPED` or `END_SET_ASIDE` where that alone explains a 0; else None.

    Args:
        rows: of the study; others: of other studies, to which a fault may have given slices of this one, and of files
            of which nobody knows whose they are: they excuse nothing where the study has its folder for itself.
    """
    scan = delivery.scan
    by_path = {f.name: f for f in delivery.files}
    shown = {by_path[r["path"]].index for r in rows if r["status"] == "scored" and r["path"] in by_path}
    kept = sorted(i for i in shown if i is not None)
    lost = scan.scored - set(kept)
    altered = any(f.altered and f.index in scan.bleed and f.index in kept for f in delivery.files)
    if not kept or not lost & scan.bleed or altered or not covers_head(scan, kept):
        return None
    shared = any(r["study_uid"] for r in others)
    elsewhere = {by_path[r["path"]].index for r in others if r["path"] in by_path and shared}
    inside = [i for i in lost if kept[0] < i < kept[-1]]
    if inside:
        return None
    reasons = set()
    for index in lost - delivery.gone:
        own = [r["reason"] for r in rows if r["path"] in by_path and by_path[r["path"]].index == index]
        if not own and index not in elsewhere:  # it lies there, and nothing was said of it
            return None
        reasons.update(own)
    if not reasons:
        return END_DROPPED
    if reasons == {"blank"}:  # by the contract where the head beside is at most half of the largest
        return END_DROPPED if scan.head_pixels[kept[-1]] <= VERTEX_SHARE * max(scan.head_pixels) else None
    return END_SET_ASIDE if all(REASONS[r].whole_series or REASONS[r].status == "skipped" for r in reasons) else None


def covers_head(scan: Scan, kept: list[int]) -> bool:
    """Whether slices, in order, are a head as far as the contract can tell: 80 mm, and the vertex in view."""
    heights = scan.heights_mm
    span = heights[kept[-1]] - heights[kept[0]] + float(scan.datasets[0].SliceThickness)
    heads = [scan.head_pixels[i] for i in kept]
    return span >= SPAN_MM and heads[-1] <= VERTEX_SHARE * max(heads)

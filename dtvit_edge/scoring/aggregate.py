"""Slices to stacks to study, and why a 0 is not earned.

A stack's probability is the mean of its highest places, as many as the spec says; a study's is its highest stack's. A
study is `scored` where each of its scans has a stack without a reason against it, where all of them together cover a
head, and where no file that could belong to it is missing. Else it is `partial`: a positive counts, a 0 does not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dtvit_edge import reasons
from dtvit_edge.dicom.geometry import MOST_THICKNESS_MM, SAME_POSITION_MM, centre_height_mm
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.reasons import REASONS, STUDY_REASONS, Status
from dtvit_edge.results import SliceScore, StackScore, StudyScore, likeliest_location
from dtvit_edge.scoring.judgement import END_OF_HEAD, JudgedStack, head_mm2

# Fewer scored places than this are no scan of a head.
LEAST_PLACES = 3
# From the base of the skull to the vertex an adult's head measures 120 mm and more; an infant's was not among the data.
LEAST_SPAN_MM = 80.0
# Reasons of single slices that, within a series that is scored, are a slice's loss and no other kind of image.
_LOSSES = frozenset(r.code for r in (reasons.NOT_CT, reasons.NOT_HU, reasons.IMPLAUSIBLE_HU))


@dataclass(frozen=True)
class Coverage:
    """How much of a head the slices of a study show.

    Attributes:
        span_mm: from the lowest to the highest slice along z; covered_share: of it, what no gap takes. Both None where
            no slice says where it lies.
        vertex: whether the highest slice's head is at most half of the largest.
    """

    span_mm: float | None
    covered_share: float | None
    vertex: bool

    @property
    def is_whole(self) -> bool:
        """Whether a head is covered, as far as heights are known."""
        return self.span_mm is None or (self.vertex and self.span_mm >= LEAST_SPAN_MM)


def stack_score(judged: JudgedStack, *, top_places: int) -> StackScore:
    """The result of one stack that is not set aside.

    Args:
        top_places: how many of the highest places the mean is over (`PreprocessSpec.top_places`).
    """
    rows = [row for _, _, row in judged.slices]
    places: dict[int | None, SliceScore] = {}
    # Of equals the first by path and frame, so that the order of reading changes nothing.
    for row in sorted(rows, key=lambda r: (-_probability(r), r.path, r.frame)):
        if row.ich_probability is not None:
            places.setdefault(row.place, row)
    top = list(places.values())[:top_places]
    locations = [row.location_probabilities for row in top if row.location_probabilities is not None]
    return StackScore(
        study_uid=judged.stack.series[0].study_uid,
        series_uids=tuple(dict.fromkeys(series.series_uid for series in judged.stack.series)),
        slices=len(rows),
        scored=sum(row.ich_probability is not None for row in rows),
        places=len(places),
        ich_probability=mean_of_highest(map(_probability, places.values()), top_places) if top else None,
        location_probabilities=(
            (_mean([p[0] for p in locations]), _mean([p[1] for p in locations]), _mean([p[2] for p in locations]))
            if locations
            else None
        ),
        top=top[0] if top else None,
        reasons=_against(judged, len(places)),
    )


def mean_of_highest(probabilities: Iterable[float], count: int) -> float:
    """What several places say together: the mean of the highest, at most `count` of them."""
    return _mean(sorted(probabilities, reverse=True)[:count])


def coverage(stacks: Iterable[JudgedStack]) -> Coverage:
    """What the slices of a scan's stacks show together; those whose pixels were not read show nothing."""
    heads: list[tuple[float, float]] = []
    missing = 0.0
    for judged in stacks:
        for header, height, row in judged.slices:
            z = centre_height_mm(header)
            z = height if z is None else z
            if z is not None and row.status in (Status.SCORED, Status.SKIPPED):
                heads.append((z, head_mm2(header, row)))
        missing = max(missing, sum(high - low for low, high in judged.stack.gaps))
    if not heads:
        return Coverage(None, None, False)
    span = max(heads)[0] - min(heads)[0]
    # Air above the head says nothing of how the head ends.
    shown = [(z, area) for z, area in heads if area > 0] or heads
    at_top = max(area for z, area in shown if max(shown)[0] - z < SAME_POSITION_MM)
    vertex = at_top <= END_OF_HEAD * max(area for _, area in shown)
    return Coverage(span, max(0.0, 1 - missing / span) if span else 1.0, vertex)


def study_score(
    study_uid: str,
    stacks: Sequence[tuple[JudgedStack, StackScore | None]],
    rows: Sequence[SliceScore],
    *,
    threshold: float,
    patients: int = 1,
    unread: bool = False,
) -> StudyScore:
    """The result of one study.

    Args:
        stacks: with their scores; None for those that were set aside for their values.
        rows: all rows of the study, the unsuitable and unreadable ones included.
        threshold: at or above which a probability is positive.
        patients: whose images carry the study's UID.
        unread: a file or folder beside the study's slices could not be read.
    """
    scored = sum(row.status is Status.SCORED for row in rows)
    seen = _coverages(stacks)
    widest = max(seen.values(), key=lambda c: (c.is_whole, c.span_mm or 0.0), default=Coverage(None, None, False))
    best = max(
        (score for _, score in stacks if score is not None and score.ich_probability is not None),
        key=lambda s: s.ich_probability or 0.0,
        default=None,
    )
    against = _study_reasons(stacks, rows, seen)
    against |= {code for code, holds in (("two_patients", patients > 1), ("unread", unread)) if holds}
    if best is None:
        against -= {"few_slices", "coverage"}  # said better by the next
        against.add("nothing_scored" if stacks else "no_suitable_series")
    reason = ";".join(code for code in STUDY_REASONS if code in against)
    if best is None or best.ich_probability is None:
        return StudyScore(
            study_uid,
            Status.NOT_SCORED,
            reason,
            None,
            None,
            "",
            len(rows),
            scored,
            "",
            widest.span_mm,
            widest.covered_share,
        )
    positive = best.ich_probability >= threshold
    location = ""
    if positive and best.location_probabilities is not None:
        location = likeliest_location(best.location_probabilities)
    return StudyScore(
        study_uid=study_uid,
        status=Status.PARTIAL if against else Status.SCORED,
        reason=reason,
        flagged=positive if positive or not against else None,
        ich_probability=best.ich_probability,
        location=location,
        slices=len(rows),
        scored=scored,
        top_sop_uid=best.top.sop_uid if best.top else "",
        span_mm=widest.span_mm,
        covered_share=widest.covered_share,
    )


def _against(judged: JudgedStack, places: int) -> tuple[str, ...]:
    """Why a 0 of a stack alone is not earned, as codes of `STUDY_REASONS`."""
    stack = judged.stack
    doubts = [set(series.doubts) for series in stack.series]
    holds = {
        "gap": bool(stack.gaps)
        or stack.is_cut_short
        or stack.misses_parts
        or (not stack.is_placed and stack.misses_numbers),
        "not_contiguous": _is_interrupted(judged.slices),
        "few_slices": places < LEAST_PLACES,
        "small_fov": judged.small_fov,
        "geometry_unknown": not stack.is_placed,
        **dict.fromkeys(set().union(*doubts), True),
    }
    return tuple(code for code in STUDY_REASONS if holds.get(code))


def _is_interrupted(slices: Sequence[tuple[SliceHeader, float | None, SliceScore]]) -> bool:
    """Whether no head or no brain is seen between slices that show one, or above them in a head that has not ended."""
    rows = [row for _, _, row in slices]
    shown = [i for i, row in enumerate(rows) if row.status is Status.SCORED]
    skipped = {reasons.NO_HEAD.code, reasons.NO_BRAIN.code}
    if any(row.reason in skipped for a, b in pairwise(shown) for row in rows[a + 1 : b]):
        return True
    heads = [head_mm2(header, row) for header, _, row in slices]
    above = heads[shown[-1] + 1 :] if shown else []
    return any(area > END_OF_HEAD * max(heads) for area in above)


def _coverages(stacks: Sequence[tuple[JudgedStack, StackScore | None]]) -> dict[int, Coverage]:
    """What each scan covers; heights of different scans do not compare."""
    scans: dict[int, list[JudgedStack]] = defaultdict(list)
    for judged, score in stacks:
        if score is not None:
            scans[judged.stack.scan].append(judged)
    return {scan: coverage(members) for scan, members in scans.items()}


def _answering(scores: Sequence[tuple[JudgedStack, StackScore]]) -> StackScore:
    """The stack that answers for its scan: of those that reach as far as all together the one with least against it."""

    def ends(judged: JudgedStack) -> tuple[float, float]:
        heights = [height for _, height, _ in judged.slices if height is not None]
        return (min(heights), max(heights)) if heights else (math.inf, -math.inf)

    low, high = (f(end) for f, end in zip((min, max), zip(*(ends(j) for j, _ in scores), strict=True), strict=True))
    whole = [s for j, s in scores if ends(j)[0] <= low + MOST_THICKNESS_MM and ends(j)[1] >= high - MOST_THICKNESS_MM]
    if whole:
        return min(whole, key=lambda s: (len(s.reasons), -s.places))
    return max((s for _, s in scores), key=lambda s: s.places)


def _study_reasons(
    stacks: Sequence[tuple[JudgedStack, StackScore | None]], rows: Sequence[SliceScore], seen: Mapping[int, Coverage]
) -> set[str]:
    scans: dict[int, list[tuple[JudgedStack, StackScore]]] = defaultdict(list)
    for judged, score in stacks:
        if score is not None:
            scans[judged.stack.scan].append((judged, score))
    is_whole = any(c.is_whole for c in seen.values())
    against: set[str] = set()
    for scan, scores in scans.items():
        codes = set(_answering(scores).reasons)
        # A test of the contrast agent's arrival, say, beside a scan of the whole head.
        if any(c.is_whole and c.span_mm is not None for other, c in seen.items() if other != scan):
            codes.discard("few_slices")
        against |= codes
    if scans and not is_whole:
        against.add("coverage")
    suitable = {uid for scores in scans.values() for _, score in scores for uid in score.series_uids}
    aside = {row.series_uid for row in rows if row.series_uid not in suitable and _is_aside(row)}
    for row in rows:
        if row.status is Status.ERROR and row.series_uid not in aside:
            against.add("slice_error")
        elif row.status is Status.REFUSED and row.series_uid not in aside and _is_loss(row):
            against.add("slice_refused")
    return against


def _is_loss(row: SliceScore) -> bool:
    """Whether a refused row of a suitable series is a slice that its result lacks."""
    return not REASONS[row.reason].whole_series or row.reason in _LOSSES


def _is_aside(row: SliceScore) -> bool:
    """Whether a row says that its whole series was set aside."""
    return row.status is Status.REFUSED and REASONS[row.reason].whole_series


def _probability(row: SliceScore) -> float:
    return -1.0 if row.ich_probability is None else row.ich_probability


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

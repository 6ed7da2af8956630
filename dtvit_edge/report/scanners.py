"""What each scanner sends: which of its series are refused and why, and whether scores and brain shares drift.

Drift is seen beside the profile in the bundle's manifest: how slice probabilities and brain shares were distributed on
the slices that it was made and calibrated with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from dtvit_edge.reasons import STUDY_REASONS, Status
from dtvit_edge.report.standing import Entry, Standing
from dtvit_edge.report.templates import page
from dtvit_edge.report.words import left_out_sentence
from dtvit_edge.scoring.series_file import SeriesOutcome

# Of as many studies and series there is a sentence: fewer are chance.
LEAST_FOR_A_SENTENCE = 3
MOST_ROWS = 500
UNNAMED = "not named"
# A profile's sets, the one that is nearest to what a run sees first; and its levels, in per cent.
PROFILE_SETS = ("calibration", "golden")
LOWEST, MEDIAN, HIGHEST = "5", "50", "95"
MEASURES = (("ich_probability", "Probability of a slice"), ("brain_share", "Brain in the head"))


@dataclass(frozen=True)
class Sent:
    """What one scanner sends by one protocol.

    Attributes:
        kernels: that its series name; series: how many; slices: by status.
        left_out: reason, sentence and number of slices, the most frequent first.
        sentence: what holds of all of it; empty where nothing does.
    """

    scanner: str
    protocol: str
    kernels: tuple[str, ...]
    series: int
    slices: Mapping[Status, int]
    left_out: tuple[tuple[str, str, int], ...]
    sentence: str


@dataclass(frozen=True)
class StudiesOf:
    """The studies of one scanner.

    Attributes:
        reasons: code, sentence and number of studies.
    """

    scanner: str
    studies: int
    partial: int
    not_scored: int
    reasons: tuple[tuple[str, str, int], ...]
    sentence: str


@dataclass(frozen=True)
class Measure:
    """One number of a group of slices, beside the profile.

    Attributes:
        low, middle, high: of the profile; None without one.
        outside: it lies beyond both of its ends.
    """

    value: float | None
    low: float | None
    middle: float | None
    high: float | None

    @property
    def outside(self) -> bool:
        """Whether the value lies beyond the profile's ends."""
        return None not in (self.value, self.low, self.high) and not self.low <= self.value <= self.high  # type: ignore[operator]


@dataclass(frozen=True)
class Drift:
    """One scanner in one week (PS3.3's StudyDate, ISO 8601's weeks), or without dates at any time."""

    scanner: str
    week: str
    studies: int
    flagged: int
    slices: int
    refused_share: float
    measures: tuple[Measure, ...]


def scanners_page(standing: Standing) -> str:
    """The page of refusals, by scanner and protocol."""
    return page(
        "scanners.html",
        sent=(sent := what_is_sent(standing.series))[:MOST_ROWS],
        more_sent=max(len(sent) - MOST_ROWS, 0),
        studies=(studies := studies_by_scanner(standing.entries))[:MOST_ROWS],
        more_studies=max(len(studies) - MOST_ROWS, 0),
        here="scanners",
    )


def drift_page(standing: Standing) -> str:
    """The page of drift, by scanner and week."""
    profile = None if standing.results is None else profile_of(standing.results.run)
    rows = drift(standing.entries, standing.series, {} if profile is None else profile[1])
    return page(
        "drift.html",
        rows=rows[:MOST_ROWS],
        more=max(len(rows) - MOST_ROWS, 0),
        measures=[title for _, title in MEASURES],
        profile=None if profile is None else profile[0],
        slices=0 if profile is None else profile[1].get("slices", 0),
        levels=[] if profile is None else [Measure(None, *_levels(profile[1], name)) for name, _ in MEASURES],
        has_dates=standing.has_dates,
        under_way=standing.results is None,
        here="drift",
    )


def what_is_sent(series: Iterable[SeriesOutcome]) -> list[Sent]:
    """What each scanner sends by each protocol; where most is left out comes first."""
    groups: dict[tuple[str, str], list[SeriesOutcome]] = defaultdict(list)
    for row in series:
        if row.series_uid:
            groups[row.scanner, row.protocol].append(row)
    found = [_sent(scanner, protocol, rows) for (scanner, protocol), rows in groups.items()]
    return sorted(found, key=lambda s: (-sum(n for _, _, n in s.left_out), s.scanner, s.protocol))


def _sent(scanner: str, protocol: str, rows: Sequence[SeriesOutcome]) -> Sent:
    slices: Counter[Status] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        slices[row.status] += row.slices
        if row.reason:
            reasons[row.reason] += row.slices
    uids = {row.series_uid for row in rows}
    sentence = ""
    if not slices[Status.SCORED] and len(uids) >= LEAST_FOR_A_SENTENCE:
        (code, count), *_ = reasons.most_common(1)
        most = "all" if count == sum(slices.values()) else "most"
        sentence = f"Nothing of {len(uids)} series was scored; {most} of it: {left_out_sentence(code)}"
    return Sent(
        scanner or UNNAMED,
        protocol or UNNAMED,
        tuple(sorted({row.kernel for row in rows} - {""})),
        len(uids),
        slices,
        tuple((code, left_out_sentence(code), count) for code, count in reasons.most_common()),
        sentence,
    )


def studies_by_scanner(entries: Iterable[Entry]) -> list[StudiesOf]:
    """The studies of each scanner; one of several scanners counts for each. Where most are not whole comes first."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for scanner in entry.scanners or ("",):
            groups[scanner].append(entry)
    found = []
    for scanner, members in groups.items():
        states = Counter(entry.study.status for entry in members)
        reasons = Counter(code for entry in members for code in entry.study.reasons)
        always = [STUDY_REASONS.get(code, code) for code, count in reasons.items() if count == len(members)]
        sentence = " ".join(always) if len(members) >= LEAST_FOR_A_SENTENCE else ""
        found.append(
            StudiesOf(
                scanner or UNNAMED,
                len(members),
                states[Status.PARTIAL],
                states[Status.NOT_SCORED],
                tuple((code, STUDY_REASONS.get(code, code), count) for code, count in reasons.most_common()),
                f"Of every one of its {len(members)} studies: {sentence}" if sentence else "",
            )
        )
    return sorted(found, key=lambda s: (-(s.partial + s.not_scored), s.scanner))


def drift(entries: Iterable[Entry], series: Iterable[SeriesOutcome], profile: Mapping[str, Any]) -> list[Drift]:
    """Each scanner by weeks, the last week first; what no scanner is known of is left out.

    Args:
        profile: of one set of slices, as the manifest has it; empty without one.
    """
    of = {entry.study.uid: entry for entry in entries}
    groups: dict[tuple[str, str], list[SeriesOutcome]] = defaultdict(list)
    for row in series:
        if row.scanner and row.study_uid in of:
            groups[row.scanner, _week(of[row.study_uid].date)].append(row)
    found = []
    for (scanner, week), rows in groups.items():
        uids = {row.study_uid for row in rows}
        slices = sum(row.slices for row in rows)
        refused = sum(row.slices for row in rows if row.status in (Status.REFUSED, Status.ERROR))
        scored = [row for row in rows if row.status is Status.SCORED]
        values = (
            _weighted_median([(row.probability, row.slices) for row in scored]),
            _weighted_median([(row.brain_share, row.slices) for row in scored]),
        )
        measures = tuple(
            Measure(value, *_levels(profile, name)) for value, (name, _) in zip(values, MEASURES, strict=True)
        )
        flagged = sum(of[uid].kind == "flagged" for uid in uids)
        found.append(Drift(scanner, week, len(uids), flagged, slices, refused / slices if slices else 0.0, measures))
    found.sort(key=lambda d: d.week, reverse=True)
    return sorted(found, key=lambda d: d.scanner)


def profile_of(run: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The profile of the bundle that a run names, of the first of `PROFILE_SETS` that it has; None without one."""
    profile = run["bundle"].get("profile")
    for name in PROFILE_SETS:
        if isinstance(profile, Mapping) and isinstance(profile.get(name), Mapping):
            return name, profile[name]
    return None


def _levels(profile: Mapping[str, Any], name: str) -> tuple[float | None, float | None, float | None]:
    levels = profile.get(name)

    def level(at: str) -> float | None:
        value = levels.get(at) if isinstance(levels, Mapping) else None
        return float(value) if isinstance(value, (int, float)) and 0 <= value <= 1 else None

    return level(LOWEST), level(MEDIAN), level(HIGHEST)


def _weighted_median(values: Sequence[tuple[float | None, int]]) -> float | None:
    known = sorted((value, weight) for value, weight in values if value is not None)
    half = sum(weight for _, weight in known) / 2
    passed = 0
    for value, weight in known:
        passed += weight
        if passed >= half:
            return value
    return None


def _week(day: str) -> str:
    """The week of a day, as ISO 8601 writes it; empty without one."""
    try:
        year, week, _ = date.fromisoformat(day).isocalendar()
    except ValueError:
        return ""
    return f"{year}-W{week:02}"

"""`series.csv`: what became of each series, and which scanner, protocol and kernel sent it.

It is what a page of results says of scanners: refusals by scanner and protocol, and whether scores and brain shares
drift. Of the study it holds nothing but its UID: no name, no id, no date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from dtvit_edge.dicom.plan import Plan
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.escaping import csv_cell
from dtvit_edge.reasons import Status
from dtvit_edge.results import SliceScore
from dtvit_edge.scoring.csv_files import LAST_COLUMNS, csv_text, probability
from dtvit_edge.spec import NOTICE

SERIES_COLUMNS = (
    "study_uid",
    "series_uid",
    "scanner",
    "protocol",
    "kernel",
    "status",
    "reason",
    "slices",
    "ich_probability",
    "brain_share",
)
# The device's own name in its house, for those who ask to see whose study it is.
STATION = "station"


@dataclass(frozen=True)
class SeriesOutcome:
    """So many slices of a series of which the same became.

    Attributes:
        scanner, station, protocol, kernel: of its first slice; empty where no header could be read.
        status, reason: of its slices, as in `slices.csv`.
        probability, brain_share: medians over them; None where they have none.
    """

    study_uid: str
    series_uid: str
    scanner: str
    station: str
    protocol: str
    kernel: str
    status: Status
    reason: str
    slices: int
    probability: float | None
    brain_share: float | None


def series_outcomes(plan: Plan, rows: Iterable[SliceScore]) -> list[SeriesOutcome]:
    """What became of the series of one study, or of the files that belong to none.

    Args:
        plan: the study's part of the plan; rows: its slices'.
    """
    first: dict[str, SliceHeader] = {}
    for series in plan.series:
        first.setdefault(series.series_uid, series.headers[0])
    groups: dict[tuple[str, str, Status, str], list[SliceScore]] = {}
    for row in rows:
        groups.setdefault((row.study_uid, row.series_uid, row.status, row.reason), []).append(row)
    found = []
    for (study, series_uid, status, reason), members in groups.items():
        header = first.get(series_uid)
        scanner, station, protocol = ("",) * 3 if header is None else (header.scanner, header.station, header.protocol)
        found.append(
            SeriesOutcome(
                study,
                series_uid,
                scanner,
                station,
                protocol,
                (header.kernel or "") if header is not None else "",
                status,
                reason,
                len(members),
                _median([row.ich_probability for row in members]),
                _median([row.brain_share for row in members]),
            )
        )
    return sorted(found, key=lambda o: (o.study_uid, o.series_uid, o.status, o.reason))


def series_head(*, identify: bool = False) -> str:
    """The first line of `series.csv`."""
    return csv_text([(*SERIES_COLUMNS, *((STATION,) if identify else ()), *LAST_COLUMNS)])


def series_lines(outcomes: Sequence[SeriesOutcome], model_status: str, *, identify: bool = False) -> str:
    """Rows of `series.csv`, as they are given."""
    return csv_text(
        [
            *map(csv_cell, (o.study_uid, o.series_uid, o.scanner, o.protocol, o.kernel, str(o.status), o.reason)),
            str(o.slices),
            probability(o.probability),
            probability(o.brain_share),
            *([csv_cell(o.station)] if identify else []),
            model_status,
            NOTICE,
        ]
        for o in outcomes
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None

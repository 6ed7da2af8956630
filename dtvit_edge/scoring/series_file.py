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
from dtvit_edge.reasons import Status
from dtvit_edge.results import SliceScore
from dtvit_edge.scoring.csv_columns import Column, head, lines, names, probability

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


SERIES_TABLE: tuple[Column[SeriesOutcome], ...] = (
    Column("study_uid", "as in `slices.csv`", lambda o: o.study_uid),
    Column("series_uid", "as in `slices.csv`", lambda o: o.series_uid),
    Column(
        "scanner",
        "Manufacturer and ManufacturerModelName of the series' first slice; empty where no header could be read",
        lambda o: o.scanner,
    ),
    Column("protocol", "its ProtocolName, in capitals and with blanks for signs", lambda o: o.protocol),
    Column("kernel", "its ConvolutionKernel, likewise", lambda o: o.kernel),
    Column("status", "what became of these slices: a series has a row for each outcome", lambda o: str(o.status)),
    Column("reason", "why, as in `slices.csv`", lambda o: o.reason),
    Column("slices", "how many they are", lambda o: str(o.slices)),
    Column(
        "ich_probability",
        "the median of their probabilities, with four decimals; empty unless scored",
        lambda o: probability(o.probability),
    ),
    Column(
        "brain_share",
        "the median share of the head that has the values of brain; empty where no pixels were read",
        lambda o: probability(o.brain_share),
    ),
)
SERIES_COLUMNS = names(SERIES_TABLE)
_WITH_STATION = (*SERIES_TABLE, Column[SeriesOutcome](STATION, "the scanner's own name", lambda o: o.station))


def series_head(*, identify: bool = False) -> str:
    """The first line of `series.csv`."""
    return head(_WITH_STATION if identify else SERIES_TABLE)


def series_lines(outcomes: Sequence[SeriesOutcome], model_status: str, *, identify: bool = False) -> str:
    """Rows of `series.csv`, as they are given."""
    return lines(_WITH_STATION if identify else SERIES_TABLE, outcomes, model_status)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None

"""`slices.csv` and `studies.csv`: sorted, four decimals, flags 0 or 1, empty where nothing is known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from dtvit_edge.escaping import csv_cell
from dtvit_edge.results import SliceScore, StudyScore
from dtvit_edge.spec import LOCATION_LABELS, NOTICE

SLICE_COLUMNS = (
    "study_uid",
    "series_uid",
    "sop_uid",
    "frame",
    "path",
    "status",
    "reason",
    "ich_probability",
    "ich",
    "location",
    *(f"p_{label}" for label in LOCATION_LABELS),
    "place",
)
STUDY_COLUMNS = (
    "study_uid",
    "status",
    "reason",
    "flagged",
    "ich_probability",
    "location",
    "slices",
    "scored",
    "top_sop_uid",
    "span_mm",
    "covered_share",
)
# Of a worklist's columns, for those who ask: they say whose study it is.
IDENTIFYING_COLUMNS = ("accession_number", "study_date", "folder")
LAST_COLUMNS = ("model_status", "notice")

Identification: TypeAlias = tuple[str, str, str]


def slice_head() -> str:
    """The first line of `slices.csv`."""
    return csv_text([(*SLICE_COLUMNS, *LAST_COLUMNS)])


def study_head(*, identify: bool = False) -> str:
    """The first line of `studies.csv`."""
    return csv_text([(*STUDY_COLUMNS, *(IDENTIFYING_COLUMNS if identify else ()), *LAST_COLUMNS)])


def slice_lines(rows: Iterable[SliceScore], model_status: str) -> str:
    """Rows of `slices.csv`, sorted by study, series, path and frame."""
    ordered = sorted(rows, key=lambda r: (r.study_uid, r.series_uid, r.path, r.frame))
    return csv_text(
        _cells(
            model_status,
            r.study_uid,
            r.series_uid,
            r.sop_uid,
            str(r.frame),
            r.path,
            str(r.status),
            r.reason,
            probability(r.ich_probability),
            flag(r.ich),
            r.location,
            *(probability(p) for p in r.location_probabilities or (None,) * len(LOCATION_LABELS)),
            "" if r.place is None else str(r.place),
        )
        for r in ordered
    )


def study_line(r: StudyScore, model_status: str, identification: Identification | None = None) -> str:
    """A row of `studies.csv`, with the columns that identify a study where they are given."""
    return csv_text(
        [
            _cells(
                model_status,
                r.study_uid,
                str(r.status),
                r.reason,
                flag(r.flagged),
                probability(r.ich_probability),
                r.location,
                str(r.slices),
                str(r.scored),
                r.top_sop_uid,
                "" if r.span_mm is None else f"{r.span_mm:.1f}",
                probability(r.covered_share),
                *(identification or ()),
            )
        ]
    )


def probability(value: float | None) -> str:
    """Four decimals; empty where there is none."""
    return "" if value is None else f"{value:.4f}"


def flag(value: bool | None) -> str:
    """0 or 1; empty where nothing is known."""
    return "" if value is None else str(int(value))


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as a CSV has them."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _cells(model_status: str, *cells: str) -> list[str]:
    return [*map(csv_cell, cells), model_status, NOTICE]

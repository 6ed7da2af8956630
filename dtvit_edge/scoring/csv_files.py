"""`slices.csv` and `studies.csv`: sorted, four decimals, flags 0 or 1, empty where nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from dtvit_edge.results import SliceScore, StudyScore
from dtvit_edge.scoring.csv_columns import Column, csv_text, flag, head, line, lines, names, probability
from dtvit_edge.spec import LOCATION_LABELS


def _location_share(index: int) -> Callable[[SliceScore], str]:
    return lambda r: probability(r.location_probabilities[index]) if r.location_probabilities else ""


SLICE_TABLE: tuple[Column[SliceScore], ...] = (
    Column("study_uid", "StudyInstanceUID; empty where it could not be read", lambda r: r.study_uid),
    Column("series_uid", "SeriesInstanceUID; empty where it could not be read", lambda r: r.series_uid),
    Column("sop_uid", "SOPInstanceUID; empty where it could not be read", lambda r: r.sop_uid),
    Column("frame", "the number of the frame, from 1", lambda r: str(r.frame)),
    Column("path", "the path from the folder that was given, with forward slashes", lambda r: r.path),
    Column(
        "status",
        "`scored`, `skipped` (not meant for the result), `refused` (unsuitable) or `error`",
        lambda r: str(r.status),
    ),
    Column("reason", "a code of the table below; empty where the slice was scored", lambda r: r.reason),
    Column(
        "ich_probability",
        "the probability of haemorrhage on this slice, with four decimals; empty unless scored",
        lambda r: probability(r.ich_probability),
    ),
    Column(
        "ich",
        "1 where the probability reaches the bundle's threshold, else 0; empty unless scored",
        lambda r: flag(r.ich),
    ),
    Column(
        "location",
        "`deep`, `lobar` or `subtentorial`, whichever is likeliest; empty where `ich` is not 1",
        lambda r: r.location,
    ),
    *(
        Column(f"p_{label}", f"the probability of `{label}`, given that there is a haemorrhage", _location_share(i))
        for i, label in enumerate(LOCATION_LABELS)
    ),
    Column(
        "place",
        "where the image that it went into lies in its scan, from 1 at the feet; empty where it went into none",
        lambda r: "" if r.place is None else str(r.place),
    ),
)
STUDY_TABLE: tuple[Column[StudyScore], ...] = (
    Column("study_uid", "the study's StudyInstanceUID", lambda r: r.study_uid),
    Column(
        "status",
        "`scored`, `partial` (something that belongs to the study is not in the result) or `not_scored`",
        lambda r: str(r.status),
    ),
    Column("reason", "the study's own reasons, joined by `;`; empty where there is nothing to say", lambda r: r.reason),
    Column("flagged", "1, 0 or **empty**", lambda r: flag(r.flagged)),
    Column(
        "ich_probability",
        "the probability of the study's highest scan; empty where none was scored",
        lambda r: probability(r.ich_probability),
    ),
    Column("location", "the likeliest location; empty where the study is not positive", lambda r: r.location),
    Column("slices", "the number of the study's rows in `slices.csv`", lambda r: str(r.slices)),
    Column("scored", "how many of them were scored", lambda r: str(r.scored)),
    Column("top_sop_uid", "the slice with the highest probability in that scan", lambda r: r.top_sop_uid),
    Column(
        "span_mm",
        "from the lowest to the highest slice of the suitable series, along the patient's axis",
        lambda r: "" if r.span_mm is None else f"{r.span_mm:.1f}",
    ),
    Column(
        "covered_share",
        "the share of that span that no gap takes, with four decimals",
        lambda r: probability(r.covered_share),
    ),
)
SLICE_COLUMNS, STUDY_COLUMNS = names(SLICE_TABLE), names(STUDY_TABLE)
# Of a worklist's columns, for those who ask: they say whose study it is.
IDENTIFYING_COLUMNS = ("accession_number", "study_date", "folder")

Identification: TypeAlias = tuple[str, str, str]


def slice_head() -> str:
    """The first line of `slices.csv`."""
    return head(SLICE_TABLE)


def study_head(*, identify: bool = False) -> str:
    """The first line of `studies.csv`."""
    return head(STUDY_TABLE, IDENTIFYING_COLUMNS if identify else ())


def slice_lines(rows: Iterable[SliceScore], model_status: str) -> str:
    """Rows of `slices.csv`, sorted by study, series, path and frame."""
    ordered = sorted(rows, key=lambda r: (r.study_uid, r.series_uid, r.path, r.frame))
    return lines(SLICE_TABLE, ordered, model_status)


def study_line(row: StudyScore, model_status: str, identification: Identification | None = None) -> str:
    """A row of `studies.csv`, with the columns that identify a study where they are given."""
    cells = [column.cell(row) for column in STUDY_TABLE]
    return csv_text([line([*cells, *(identification or ())], model_status)])

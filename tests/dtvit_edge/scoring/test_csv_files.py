from __future__ import annotations

import csv
import io

from dtvit_edge.escaping import csv_cell
from dtvit_edge.reasons import Status
from dtvit_edge.results import SliceScore, StudyScore
from dtvit_edge.scoring.csv_files import slice_head, slice_lines, study_head, study_line
from dtvit_edge.spec import NOTICE

ROWS = [
    SliceScore("2", "1", "9", 1, "=cmd|' /C calc'!A0", Status.SCORED, "", 0.99996, (0.2, 0.7, 0.1), True),
    SliceScore("1", "1", "8", 1, "b", Status.SCORED, "", 0.12345, (0.2, 0.7, 0.1), False, place=12),
    SliceScore("", "", "", 1, "z,\n", Status.SKIPPED, "not_dicom"),
]


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_slice_columns_are_the_contract() -> None:
    text = slice_head() + slice_lines(ROWS, "synthetic")
    assert text.splitlines()[0] == (
        "study_uid,series_uid,sop_uid,frame,path,status,reason,ich_probability,ich,location,"
        "p_deep,p_lobar,p_subtentorial,place,model_status,notice"
    )
    none, low, high = parse(text)
    assert (none["path"], none["status"], none["reason"]) == ("z,\\n", "skipped", "not_dicom")
    assert {none[k] for k in ("ich_probability", "ich", "location", "p_deep")} == {""}
    assert (low["ich_probability"], low["ich"], low["location"], low["p_lobar"]) == (
        "0.1235",
        "0",
        "",
        "0.7000",
    )
    assert (high["ich_probability"], high["ich"], high["location"]) == ("1.0000", "1", "lobar")
    assert [r["place"] for r in (none, low, high)] == ["", "12", ""]
    assert {r["notice"] for r in (none, low, high)} == {NOTICE}
    assert {r["model_status"] for r in (none, low, high)} == {"synthetic"}


def test_a_positive_slice_without_location_has_empty_cells() -> None:
    row = SliceScore("1", "1", "8", 1, "b", Status.SCORED, "", 0.9, None, True)
    (written,) = parse(slice_head() + slice_lines([row], "synthetic"))
    assert (written["ich_probability"], written["ich"]) == ("0.9000", "1")
    assert [written[k] for k in ("location", "p_deep", "p_lobar", "p_subtentorial")] == [""] * 4


def test_study_columns_are_the_contract() -> None:
    rows = [
        StudyScore("b", Status.PARTIAL, "gap", None, 0.25, "", 9, 8, "1.2", 84.96, 0.75),
        StudyScore("a", Status.SCORED, "", False, 0.25, "", 9, 9, "1.2"),
    ]
    text = study_head() + "".join(study_line(row, "untrained") for row in rows)
    assert text.splitlines()[0] == (
        "study_uid,status,reason,flagged,ich_probability,location,slices,scored,top_sop_uid,"
        "span_mm,covered_share,model_status,notice"
    )
    assert [(r["study_uid"], r["flagged"]) for r in parse(text)] == [("b", ""), ("a", "0")]
    assert [(r["span_mm"], r["covered_share"]) for r in parse(text)] == [("85.0", "0.7500"), ("", "")]


def test_no_cell_is_a_formula() -> None:
    assert [csv_cell(t) for t in ("=1", "+1", "-1", "@x", "\tx", "a=1", "")] == [
        "'=1",
        "'+1",
        "'-1",
        "'@x",
        "'\\tx",
        "a=1",
        "",
    ]
    assert parse(slice_head() + slice_lines(ROWS[:1], "x"))[0]["path"].startswith("'=cmd")


def test_the_order_of_rows_changes_nothing() -> None:
    assert slice_lines(ROWS, "x") == slice_lines(ROWS[::-1], "x")

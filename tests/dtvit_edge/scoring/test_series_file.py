"""`series.csv`: which scanner sent what became of it, and nothing of whose study it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.plan import Plan, StudyPart
from dtvit_edge.dicom.slice import Series
from dtvit_edge.reasons import Status
from dtvit_edge.results import Identity
from dtvit_edge.scoring.series_file import SERIES_COLUMNS, series_head, series_lines, series_outcomes
from tests.support.headers import header
from tests.support.scoring_runs import results, score, table

SCANNER = {"scanner": "ACME Head 64", "station": "CT2", "protocol": "HEAD", "kernel": "H31S"}


def rows(*outcomes: tuple[str, float | None]) -> list[object]:
    from dtvit_edge.results import SliceScore

    return [
        SliceScore("1", "2", f"3.{i}", 1, str(i), Status.ERROR if reason else Status.SCORED, reason,
                   ich_probability=share, brain_share=share)
        for i, (reason, share) in enumerate(outcomes)
    ]  # fmt: skip


def test_slices_of_one_series_are_counted_by_what_became_of_them_with_their_scanner() -> None:
    own = header(1.0, identity=Identity("1", "2", "3.0"), **SCANNER)
    plan = Plan({"1": StudyPart((Series("1", "2", (own,)),))})
    found = series_outcomes(plan, rows(("", 0.2), ("", 0.4), ("", 0.9), ("truncated", None)))  # type: ignore[arg-type]
    assert [(o.status, o.reason, o.slices, o.probability, o.brain_share) for o in found] == [
        (Status.ERROR, "truncated", 1, None, None),
        (Status.SCORED, "", 3, 0.4, 0.4),
    ]
    assert {(o.scanner, o.station, o.protocol, o.kernel) for o in found} == {("ACME Head 64", "CT2", "HEAD", "H31S")}


def test_what_has_no_header_names_no_scanner() -> None:
    (one,) = series_outcomes(Plan({}), rows(("bad_header", None)))  # type: ignore[arg-type]
    assert (one.scanner, one.protocol, one.kernel) == ("", "", "")


def test_the_stations_name_is_written_for_those_who_ask_alone() -> None:
    own = header(1.0, identity=Identity("1", "2", "3.0"), **SCANNER | {"scanner": "=cmd()"})
    found = series_outcomes(Plan({"1": StudyPart((Series("1", "2", (own,)),))}), rows(("", 0.2)))  # type: ignore[arg-type]
    assert "CT2" not in series_lines(found, "synthetic") and "station" not in series_head()
    assert series_lines(found, "synthetic").startswith("1,2,'=cmd(),HEAD,H31S,scored,,1,0.2000,0.2000,synthetic,")
    assert ",CT2,synthetic," in series_lines(found, "synthetic", identify=True)
    assert series_head(identify=True).startswith(",".join([*SERIES_COLUMNS, "station"]))


@pytest.mark.parametrize("reader", ["auto", "pydicom"])
def test_a_run_says_of_each_series_what_sent_it_and_the_journal_gives_the_same_bytes(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reader: str
) -> None:
    files = sorted((phantom_folder / "study-0001").iterdir())
    (tmp_path / "in").mkdir()
    for i, file in enumerate(files):
        shutil.copy(file, tmp_path / "in" / str(i))
    cut = tmp_path / "in" / "7"
    cut.write_bytes(cut.read_bytes()[:9000])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out", reader=reader)
    found = table(tmp_path / "out" / "series.csv")
    dataset = pydicom.dcmread(files[0], stop_before_pixels=True)
    assert [(r["study_uid"], r["scanner"], r["status"], r["reason"]) for r in found] == [
        ("", "", "skipped", "not_dicom"),
        (dataset.StudyInstanceUID, "dtvit-edge phantom analytic head", "error", "truncated"),
        (dataset.StudyInstanceUID, "dtvit-edge phantom analytic head", "scored", ""),
    ]
    slices = table(tmp_path / "out" / "slices.csv")
    assert sum(int(r["slices"]) for r in found) == len(slices)
    assert 0.1 <= float(found[-1]["brain_share"]) <= 1
    before = results(tmp_path / "out")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out", reader=reader)
    assert results(tmp_path / "out") == before
    text = (tmp_path / "out" / "series.csv").read_text()
    assert str(dataset.PatientID) not in text and str(dataset.PatientName) not in text

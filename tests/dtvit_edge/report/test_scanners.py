"""What each scanner sends, and whether it drifts: counted from the tables, beside the profile of the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtvit_edge.reasons import Status
from dtvit_edge.report.scanners import drift, profile_of, studies_by_scanner, what_is_sent
from dtvit_edge.report.standing import OutputFolder
from dtvit_edge.scoring.series_file import SeriesOutcome
from tests.support.viewed_runs import client, study_line, write_tables

pytest.importorskip("jinja2")
pytest.importorskip("starlette", reason="starlette, of the extra `view`, is not installed")

LEVELS = {"5": 0.1, "25": 0.2, "50": 0.3, "75": 0.5, "95": 0.7}
PROFILE = {"slices": 40, "ich_probability": LEVELS, "brain_share": LEVELS | {"95": 0.9}}


def row(
    uid: str, scanner: str, status: str = "scored", reason: str = "", slices: int = 10, **more: float
) -> SeriesOutcome:
    return SeriesOutcome(
        f"1.{uid}", uid, scanner, "", "HEAD", "H70S", Status(status), reason, slices, more.get("p"), more.get("brain")
    )


def test_a_scanner_of_which_nothing_is_taken_is_said_in_a_sentence() -> None:
    rows = [row(str(i), "GE", "refused", "bone_kernel") for i in range(3)] + [row("9", "SIEMENS", p=0.1)]
    rows += [row(str(20 + i), "TOSHIBA", "refused", "bone_kernel") for i in range(2)]
    of = {sent.scanner: sent for sent in what_is_sent(rows)}
    assert of["GE"].sentence.startswith("Nothing of 3 series was scored; all of it: A bone kernel")
    assert of["GE"].left_out[0][0::2] == ("bone_kernel", 30)
    assert not of["SIEMENS"].sentence and not of["TOSHIBA"].sentence, "two series may be chance"


def test_what_holds_of_every_study_of_a_scanner_is_said(tmp_path: Path) -> None:
    lines = [study_line(f"1.{i}", "partial", "bone_kernel_only", probability="0.1", scanner="GE") for i in range(3)]
    lines += [study_line("2.1", "partial", "gap", probability="0.1", scanner="B"), study_line("2.2", probability="0.1",
              flagged="0", scanner="B"), study_line("2.3", probability="0.1", flagged="0", scanner="B")]  # fmt: skip
    out = write_tables(tmp_path / "out", lines)
    first, second = studies_by_scanner(OutputFolder(out).now().entries)
    assert "Of every one of its 3 studies: All there is was reconstructed with a bone kernel." in first.sentence
    assert (first.partial, second.scanner, second.partial, second.sentence) == (3, "B", 1, "")


def test_weeks_are_those_of_the_study_dates_and_beyond_the_profile_is_marked(tmp_path: Path) -> None:
    lines = [
        study_line("1.1", flagged="1", probability="0.8", scanner="S", date="20260105", brain="0.5"),
        study_line("1.2", flagged="0", probability="0.6", scanner="S", date="20260111", brain="0.95"),
        study_line("1.3", flagged="0", probability="0.2", scanner="S", date="20260112", brain="0.85"),
        study_line("1.4", "not_scored", scanner="S", date="20260112"),
    ]
    out = write_tables(tmp_path / "out", lines, profile={"calibration": PROFILE})
    now = OutputFolder(out).now()
    assert now.results is not None
    found = profile_of(now.results.run)
    assert found is not None and found[0] == "calibration"
    last, first = drift(now.entries, now.series, found[1])
    assert (first.week, first.studies, first.flagged, first.refused_share) == ("2026-W02", 2, 1, 0.0)
    assert (last.week, last.studies, last.slices, last.refused_share) == ("2026-W03", 2, 4, 0.5)
    assert [m.value for m in first.measures] == [0.6, 0.5] and [m.outside for m in first.measures] == [False, False]
    page = client(out).get("/drift.html").text
    assert "2026-W02" in page and "0.100 to 0.700" in page and "calibration slices" in page


def test_what_lies_beyond_both_ends_of_the_profile_is_outside(tmp_path: Path) -> None:
    out = write_tables(tmp_path / "out", [study_line("1.1", flagged="1", probability="0.9", scanner="S")],
                       profile={"golden": PROFILE})  # fmt: skip
    page = client(out).get("/drift.html").text
    assert page.count(">outside</span>") == 1 and "golden slices" in page and "have no dates" in page


@pytest.mark.parametrize("profile", [None, {}, {"golden": 3}, {"golden": {"slices": "x", "brain_share": [1, 2]}},
                                     {"calibration": {"brain_share": {"5": "low", "95": 7, "50": True}}}])  # fmt: skip
def test_a_profile_that_says_nothing_is_no_error(tmp_path: Path, profile: object) -> None:
    out = write_tables(tmp_path / "out", [study_line("1.1", flagged="1", probability="0.9")], profile=profile)  # type: ignore[arg-type]
    assert client(out).get("/drift.html").status_code == 200

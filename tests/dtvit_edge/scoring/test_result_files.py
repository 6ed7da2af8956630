"""The tables while a run goes on: what they hold, how often they are written, and what says that they are whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtvit_edge.errors import DiskFault
from dtvit_edge.reasons import Status
from dtvit_edge.results import SliceScore, StudyScore
from dtvit_edge.scoring.csv_files import slice_head, slice_lines, study_head, study_line
from dtvit_edge.scoring.result_files import LEAST_SECONDS, TIMES_THE_COST, ResultFiles, is_finished
from tests.support.scoring_runs import table


def study(uid: str) -> StudyScore:
    return StudyScore(uid, Status.SCORED, "", False, 0.25, "", 2, 2, "1")


def rows(uid: str) -> list[SliceScore]:
    return [SliceScore(uid, "s", f"{i}", 1, f"{uid}/{i}", Status.SCORED, "", 0.25, None, False, i) for i in (2, 1)]


class Clock:
    """A clock by which each version of the tables takes so long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.now, self.versions = 100.0, 0
        write = ResultFiles.write

        def counted(files: ResultFiles) -> None:
            write(files)
            self.now += cost
            self.versions += 1

        monkeypatch.setattr(ResultFiles, "write", counted)

    def __call__(self) -> float:
        return self.now


def test_studies_in_any_order_make_the_tables_of_all_at_once(tmp_path: Path) -> None:
    uids = ["1.2", "1.10", "1.1"]
    files = ResultFiles(tmp_path, "synthetic")
    for uid in uids:
        files.add(uid, rows(uid), study(uid), None)
    files.add("", [SliceScore("", "", "", 1, "x", Status.ERROR, "unreadable")], None, None)
    files.finish({})
    everything = [row for uid in uids for row in rows(uid)] + [
        SliceScore("", "", "", 1, "x", Status.ERROR, "unreadable")
    ]
    assert (tmp_path / "slices.csv").read_text() == slice_head() + slice_lines(everything, "synthetic")
    assert (tmp_path / "studies.csv").read_text() == study_head() + "".join(
        study_line(study(uid), "synthetic") for uid in sorted(uids)
    )
    assert files.counts == {"scored": 6, "error": 1} and files.reasons == {"unreadable": 1}


@pytest.mark.parametrize("cost", [0.0, 0.5], ids=["a fast disk", "a slow disk"])
def test_writing_takes_a_twentieth_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    clock = Clock(monkeypatch, cost)
    files = ResultFiles(tmp_path, "synthetic", clock=clock)
    for i in range(200):
        files.add(f"1.{i}", [], study(f"1.{i}"), None)
        files.write_if_due()
        if i == 0:
            assert clock.versions == 1, "the first study is there at once"
        clock.now += 0.5
    spent = clock.now - 100
    assert clock.versions == pytest.approx(spent / (max(LEAST_SECONDS, TIMES_THE_COST * cost) + cost), abs=3)
    assert clock.versions * cost <= spent / TIMES_THE_COST + cost


def test_tables_that_change_are_not_whole_until_the_report_lies_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ResultFiles(tmp_path, "synthetic")
    first.add("1", rows("1"), study("1"), None)
    first.finish({})
    assert is_finished(tmp_path)
    second = ResultFiles(tmp_path, "synthetic")
    second.add("2", rows("2"), study("2"), None)
    assert is_finished(tmp_path) and [row["study_uid"] for row in table(tmp_path / "studies.csv")] == ["1"]
    seen = []
    replace = os.replace

    def looked_at(part: Path, path: Path) -> None:
        seen.append((path.name, is_finished(tmp_path)))
        replace(part, path)

    monkeypatch.setattr(os, "replace", looked_at)
    second.write_if_due()
    second.finish({})
    assert seen == [("slices.csv", False), ("studies.csv", False), ("series.csv", False), ("run.json", False)]
    assert is_finished(tmp_path)


def test_a_report_that_cannot_be_removed_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ResultFiles(tmp_path, "synthetic")
    files.finish({})
    before = sorted(os.listdir(tmp_path))

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refused)
    files.add("1", rows("1"), study("1"), None)
    with pytest.raises(DiskFault, match=r"the disk failed at run.json: Operation not permitted"):
        files.write()
    assert sorted(os.listdir(tmp_path)) == before

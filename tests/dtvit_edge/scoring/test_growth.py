"""Folders that grow, shrink and change between runs of the same command: the bytes of a fresh run, the least work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring import run as run_module
from dtvit_edge.scoring.result_files import is_finished
from tests.support.dicom_files import save, series
from tests.support.scoring_runs import results, score, table

HEIGHTS = [0.0, 5, 10, 15, 20]


def copy_times(target: Path, source: os.stat_result) -> None:
    os.utime(target, ns=(source.st_atime_ns, source.st_mtime_ns))


def replaced_in_place(files: list[Path]) -> None:
    """Other pixels under the same UIDs; size and mtime are kept, and ctime cannot be."""
    before, data = files[0].stat(), bytearray(files[0].read_bytes())
    data[-100:] = bytes(100)
    files[0].write_bytes(bytes(data))
    copy_times(files[0], before)


def clock_set_back(files: list[Path]) -> None:
    os.utime(files[0], ns=(0, 10**18))


def duplicate_that_comes_first(files: list[Path]) -> None:
    shutil.copy2(files[2], files[2].with_name("000"))


def other_pixels_under_the_same_uids(files: list[Path]) -> None:
    data = bytearray(files[2].read_bytes())
    data[-100:] = bytes(100)
    files[2].with_name("000").write_bytes(bytes(data))


def thick_series(files: list[Path]) -> None:
    series(files[0].parent, HEIGHTS, uid="2.25.78")


def thin_between(files: list[Path]) -> None:
    thin = [5 + 1.25 * i for i in range(8)]
    series(files[0].parent / "thin", thin, uid="2.25.79", SliceThickness=1.25)


CHANGES: dict[str, tuple[Callable[[list[Path]], Any], int]] = {  # what happens, and slices that it lets be scored
    "a file more": (lambda files: save(files[0].with_name("new"), SOPInstanceUID="2.25.99"), 1),
    "a study more": (lambda files: series(files[0].parent / "b", HEIGHTS, uid="2.25.5", study="2.25.6"), 5),
    "a file less": (lambda files: files[0].unlink(), 0),
    "every file gone": (lambda files: [file.unlink() for file in files], 0),
    "touched": (lambda files: files[1].touch(), 1),
    "replaced, size and mtime kept": (replaced_in_place, 1),
    "the clock set back": (clock_set_back, 1),
    "a file renamed": (lambda files: files[3].rename(files[3].with_name("elsewhere")), 1),
    "the folder renamed": (lambda files: files[0].parent.rename(files[0].parent.with_name("renamed")), 0),
    "a copy that makes an earlier file one": (duplicate_that_comes_first, 1),
    "the same UIDs with other pixels": (other_pixels_under_the_same_uids, 1),
    "another series of the same places": (thick_series, 5),
    "thin slices": (thin_between, 8),
    "a file that is none": (lambda files: files[0].with_name("IM0001").write_text("stray"), 0),
    "a folder that cannot be read": (lambda files: (files[0].parent / "gone").symlink_to("/nowhere/at/all"), 0),
    "nothing": (lambda files: None, 0),
}


@pytest.mark.parametrize(("change", "most"), CHANGES.values(), ids=CHANGES.keys())
def test_what_has_changed_is_scored_and_leaves_the_bytes_of_a_fresh_run(
    tiny_bundle: Bundle, tmp_path: Path, change: Callable[[list[Path]], Any], most: int
) -> None:
    files = series(tmp_path / "in" / "a", HEIGHTS)
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").processed == len(HEIGHTS)
    change(files)
    report = score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert report.processed <= most and is_finished(tmp_path / "out")
    fresh = score(tiny_bundle, tmp_path / "in", tmp_path / "fresh")
    assert results(tmp_path / "out") == results(tmp_path / "fresh")
    assert (report.counts, report.reasons) == (fresh.counts, fresh.reasons)
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").processed == 0, "and again"
    assert results(tmp_path / "out") == results(tmp_path / "fresh")


def test_an_averaged_image_is_scored_anew_when_one_of_its_slices_changes(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = series(tmp_path / "in", [1.25 * i for i in range(16)], SliceThickness=1.25)
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").processed == 16
    files[5].touch()
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").processed == 4, "one image of four slices"
    files[0].unlink()
    report = score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert report.processed == 15, "from the feet on other slices go together"
    score(tiny_bundle, tmp_path / "in", tmp_path / "fresh")
    assert results(tmp_path / "out") == results(tmp_path / "fresh")


def test_a_study_that_loses_its_only_suitable_series_loses_its_result(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = series(tmp_path / "in" / "soft", HEIGHTS)
    series(tmp_path / "in" / "angio", HEIGHTS, uid="2.25.78", ContrastBolusAgent="OMNIPAQUE")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    (study,) = table(tmp_path / "out" / "studies.csv")
    assert study["scored"] == "5"
    for file in files:
        file.unlink()
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").exit_status == 4
    (study,) = table(tmp_path / "out" / "studies.csv")
    assert (study["status"], study["flagged"], study["scored"]) == ("not_scored", "", "0")
    score(tiny_bundle, tmp_path / "in", tmp_path / "fresh")
    assert results(tmp_path / "out") == results(tmp_path / "fresh")


def test_files_that_cannot_be_told_apart_are_not_taken_for_each_other(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files of one size, time and UIDs, as two that were written in one tick of a clock."""
    from dtvit_edge.dicom import walk
    from dtvit_edge.dicom.planned_file import FileState

    files = series(tmp_path / "in", HEIGHTS)
    monkeypatch.setattr(walk, "file_state", lambda status: FileState(status.st_size, 1, 1))
    monkeypatch.setattr("dtvit_edge.dicom.planned_file.file_state", lambda status: FileState(status.st_size, 1, 1))
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    other_pixels_under_the_same_uids(files)
    for _ in range(2):
        assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").processed == 2
        score(tiny_bundle, tmp_path / "in", tmp_path / "fresh", overwrite=True)
        assert results(tmp_path / "out") == results(tmp_path / "fresh")
    files[2].unlink()
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").processed == 1
    score(tiny_bundle, tmp_path / "in", tmp_path / "fresh", overwrite=True)
    assert results(tmp_path / "out") == results(tmp_path / "fresh")


def test_another_threshold_is_another_run_and_a_bundle_of_another_name_is_not(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    series(tmp_path / "in", HEIGHTS)
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"another run \(thresholds slice: 0.5 there, 0.25 here; thresholds study"):
        score(tiny_bundle, tmp_path / "in", tmp_path / "out", threshold=0.25)
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out", threshold=0.5).processed == 0
    copy = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "other.dtvit"))
    assert score(copy, tmp_path / "in", tmp_path / "out").processed == 0


def test_the_tables_of_a_run_that_has_not_ended_are_not_taken_for_finished_ones(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        series(tmp_path / "in" / str(i), HEIGHTS, uid=f"2.25.5{i}", study=f"2.25.6{i}")
    out, seen = tmp_path / "out", []
    from dtvit_edge.scoring.journal import Journal

    append = Journal.append

    def looked_at(journal: Journal, images: Any) -> None:
        written = out / "studies.csv"
        uids = [row["study_uid"] for row in table(written)] if written.exists() else None
        seen.append((uids, is_finished(out)))
        append(journal, images)

    monkeypatch.setattr(Journal, "append", looked_at)
    score(tiny_bundle, tmp_path / "in", out, batch=5)
    assert seen == [(None, False), (["2.25.60"], False), (["2.25.60"], False)]
    assert is_finished(out) and len(table(out / "studies.csv")) == 3
    save(tmp_path / "in" / "3" / "new", StudyInstanceUID="2.25.9")
    seen.clear()
    score(tiny_bundle, tmp_path / "in", out, batch=5)
    assert seen == [(["2.25.60", "2.25.61", "2.25.62"], False)], "what was answered before is there at once"


def test_a_model_that_is_open_is_used_as_it_is(tiny_bundle: Bundle, tmp_path: Path) -> None:
    from dtvit_edge.scoring.api import Options, open_backend, open_executor
    from dtvit_edge.scoring.opened import OpenModel

    series(tmp_path / "in", HEIGHTS)
    score(tiny_bundle, tmp_path / "in", tmp_path / "closed")
    options = Options(backend="onnxruntime", precision="fp32", batch=4, threads=1)
    with (
        open_backend(tiny_bundle, "onnxruntime", options) as backend,
        open_executor(tiny_bundle, backend, options) as executor,
    ):
        model = OpenModel(options, "asked for", backend, executor)
        for _ in range(2):
            run_module.run(tiny_bundle, [tmp_path / "in"], tmp_path / "out", Options(), model=model)
            assert results(tmp_path / "out") == results(tmp_path / "closed")


def test_what_identifies_a_study_is_written_for_those_who_ask(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in" / "p" / "a", HEIGHTS, AccessionNumber="=A1", StudyDate="20260102")
    series(tmp_path / "in" / "p" / "b", HEIGHTS, uid="2.25.5", AccessionNumber="B2", StudyDate="20260102")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    (before,) = table(tmp_path / "out" / "studies.csv")
    assert b"A1" not in b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    report = score(tiny_bundle, tmp_path / "in", tmp_path / "out", identify=True)
    (study,) = table(tmp_path / "out" / "studies.csv")
    assert report.processed == 0
    assert study == before | {"accession_number": "'=A1;B2", "study_date": "20260102", "folder": "p"}
    assert list(study)[-5:] == ["accession_number", "study_date", "folder", "model_status", "notice"]
    for name in ("journal.jsonl", "run.json"):
        assert "B2" not in (tmp_path / "out" / name).read_text()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["slices_resumed"] == 10

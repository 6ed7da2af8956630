"""What a folder can hold: bad files, odd series, multi-frame files, the real study."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring import run as run_module
from tests.support.data import real
from tests.support.dicom_files import dataset, enhanced, save, series
from tests.support.permissions import forbid
from tests.support.preprocess_cases import NO_RESIZE, THREE
from tests.support.scoring_runs import results, score, table
from tests.support.tiny_bundle import write_tiny_bundle


def test_bad_files_are_rows_and_the_run_goes_on(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    series(folder / "good", [0, 5, 10, 15])
    plain = dataset()
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("no picture")
    (folder / "truncated").write_bytes(save(folder / "t").read_bytes()[:-5000])
    (folder / "t").unlink()
    (folder / "notes.txt").write_text("no picture either")
    (folder / "zip").write_bytes(b"PK\x03\x04" * 90)
    (folder / "zeros").write_bytes(bytes(5000))
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.txt")
    os.symlink(folder / "nowhere", folder / "dangling")
    save(folder / "mr", Modality="MR", SOPInstanceUID="2.25.1")
    save(folder / "rgb", SamplesPerPixel=3, PhotometricInterpretation="RGB", SOPInstanceUID="2.25.2")
    save(folder / "palette", PhotometricInterpretation="PALETTE COLOR", SOPInstanceUID="2.25.3")
    save(folder / "huge", Rows=60000, Columns=60000, SOPInstanceUID="2.25.4")
    save(folder / "pixelless", PixelData=None, SOPInstanceUID="2.25.5")
    sr = "1.2.840.10008.5.1.4.1.1.88.11"
    save(folder / "report", Rows=None, Columns=None, PixelData=None, SOPClassUID=sr, SOPInstanceUID="2.25.6")
    save(folder / "rowless", Rows=None, Columns=None, PixelData=None, SOPInstanceUID="2.25.8")
    report = score(tiny_bundle, folder, tmp_path / "out")
    outcomes = {r["path"]: (r["status"], r["reason"]) for r in table(tmp_path / "out" / "slices.csv")}
    assert {k: v for k, v in outcomes.items() if not k.startswith("good")} == {
        "empty": ("error", "empty_file"),
        "text": ("error", "broken_file"),
        "notes.txt": ("skipped", "not_dicom"),
        "zip": ("refused", "archive"),
        "zeros": ("error", "zero_file"),
        "pipe": ("error", "broken_file"),
        "pipe.txt": ("skipped", "not_dicom"),
        "dangling": ("error", "unreadable"),
        "truncated": ("error", "truncated"),
        "mr": ("refused", "not_ct"),
        "rgb": ("refused", "color"),
        "palette": ("refused", "color"),
        "huge": ("refused", "matrix_size"),
        "pixelless": ("error", "truncated"),
        "report": ("skipped", "not_an_image"),
        "rowless": ("error", "bad_header"),
    }
    assert report.exit_status == 3
    assert sum(v == ("scored", "") for v in outcomes.values()) == 4
    studies = {r["study_uid"]: r for r in table(tmp_path / "out" / "studies.csv")}
    assert studies["2.25.7"]["ich_probability"] != ""
    broken = studies[plain.StudyInstanceUID]
    assert (broken["status"], broken["flagged"], broken["ich_probability"]) == ("not_scored", "", "")


@pytest.mark.parametrize("make", ["nothing", "only-text", "only-contrast"])
def test_nothing_scored_is_status_4(tiny_bundle: Bundle, tmp_path: Path, make: str) -> None:
    (tmp_path / "in").mkdir()
    if make == "only-text":
        (tmp_path / "in" / "a.txt").write_text("a")
    if make == "only-contrast":
        series(tmp_path / "in", [0, 5], ContrastBolusAgent="X")
    assert score(tiny_bundle, tmp_path / "in", tmp_path / "out").exit_status == 4


def test_any_series_scores_what_is_unsuitable(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 5, 10], ContrastBolusAgent="X")
    report = score(tiny_bundle, tmp_path / "in", tmp_path / "out", any_series=True)
    assert report.counts == {"scored": 3}


def test_a_missing_slice_makes_a_negative_study_partial(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 5, 15, 20])
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    (study,) = table(tmp_path / "out" / "studies.csv")
    assert (study["status"], study["reason"]) == ("partial", "gap;coverage")
    assert study["flagged"] in ("", "1")


def test_enhanced_ct_is_scored_frame_by_frame(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    """The same slices as one multi-frame file and as single files get the same scores."""
    hu = [dataset().pixel_array.astype(int) + int(dataset().RescaleIntercept) + shift for shift in (0, 3, 6)]
    intercepts = [-1024.0, -1100.0, -2000.0]
    frames = np.stack([(h - i) for h, i in zip(hu, intercepts, strict=True)]).astype(np.uint16)
    save(tmp_path / "multi" / "m", enhanced(frames, shared_rescale=False, intercepts=intercepts))
    for i, values in enumerate(hu):
        pixels = (values + 1024).astype(np.uint16)
        save(
            tmp_path / "single" / str(i),
            SOPInstanceUID=f"2.25.60{i}",
            PixelRepresentation=0,
            PixelPaddingValue=None,
            RescaleIntercept=-1024,
            PixelData=pixels.tobytes(),
        )
    for name in ("multi", "single"):
        score(tiny_bundle, tmp_path / name, tmp_path / f"out-{name}")
    multi, single = (table(tmp_path / f"out-{name}" / "slices.csv") for name in ("multi", "single"))
    assert [r["frame"] for r in multi] == ["1", "2", "3"]
    assert [r["ich_probability"] for r in multi] == [r["ich_probability"] for r in single]
    assert len({r["ich_probability"] for r in multi}) > 1


def test_no_output_names_a_patient_or_a_folder(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "DOE^JANE 1950"
    series(folder, [0, 5, 10], PatientName="DOE^JANE", PatientID="ID-12345", PatientBirthDate="19500101")
    score(tiny_bundle, folder, tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        content = file.read_text()
        assert "DOE" not in content
        assert "12345" not in content
        assert str(tmp_path) not in content, file.name


def test_three_windows_are_scored_end_to_end(phantom_folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "three.dtvit", spec=THREE)
    assert score(bundle, phantom_folder, tmp_path / "out").exit_status == 0


def test_a_matrix_below_a_literal_crop_is_a_row(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "literal.dtvit", spec=NO_RESIZE)
    series(tmp_path / "in", [0, 5, 10])
    small = np.zeros((200, 512), dtype=np.int16).tobytes()
    save(tmp_path / "in" / "small", Rows=200, PixelData=small, SOPInstanceUID="2.25.3", StudyInstanceUID="2.25.4")
    report = score(bundle, tmp_path / "in", tmp_path / "out")
    assert report.counts == {"refused": 1, "scored": 3}
    assert report.reasons == {"matrix_size": 1}


def test_the_run_report_says_what_produced_the_results(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path
) -> None:
    score(tiny_bundle, phantom_folder, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["bundle"]["digest"] == tiny_bundle.digest
    assert report["bundle"]["signer"] is None
    score(replace(tiny_bundle, signer="SHA256:key"), phantom_folder, tmp_path / "signed")
    assert json.loads((tmp_path / "signed" / "run.json").read_text())["bundle"]["signer"] == "SHA256:key"
    assert report["spec_digest"] == tiny_bundle.manifest.spec.digest
    assert report["backend"]["backend"] == "onnxruntime"
    assert report["options"]["batch"] == 4
    assert report["notice"].startswith("research use only")
    assert {"discover", "read", "preprocess", "infer", "write"} <= set(report["seconds"])


def test_the_real_study_gives_28_rows_none_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = real("studies")
    report = score(tiny_bundle, folder, tmp_path / "out")
    rows = [r for r in table(tmp_path / "out" / "slices.csv") if r["path"].endswith(".dcm")]
    assert len(rows) == 28
    assert {r["status"] for r in rows} == {"scored", "skipped"}
    assert {r["reason"] for r in rows} == {"", "no_brain"}
    assert sum(r["reason"] == "no_brain" for r in rows) == 2, "the two slices at the vertex"
    (study,) = table(tmp_path / "out" / "studies.csv")
    assert study["status"] == "scored"
    assert report.exit_status == 0
    before = results(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    score(tiny_bundle, folder, tmp_path / "out")
    assert results(tmp_path / "out") == before
    score(tiny_bundle, folder, tmp_path / "all", keep_all=True)
    assert sum(r["status"] == "scored" for r in table(tmp_path / "all" / "slices.csv")) == 28


def test_everything_odd_ends_in_rows(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = real("odd")
    report = score(tiny_bundle, folder, tmp_path / "out")
    rows = table(tmp_path / "out" / "slices.csv")
    assert {r["path"] for r in rows} == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert report.exit_status == 4
    assert all(r["flagged"] == "" for r in table(tmp_path / "out" / "studies.csv"))


def test_a_file_replaced_after_planning_is_a_row_and_the_study_is_not_whole(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = series(tmp_path / "in", [0, 5, 10, 15])
    other = series(tmp_path / "other", [0], uid="2.25.8", study="2.25.9", PatientID="other")[0]

    def planned_then_replaced(*arguments: Any) -> Any:
        plan = make_plan(*arguments)
        before = files[0].stat()
        files[0].write_bytes(other.read_bytes())
        os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
        return plan

    make_plan = run_module.make_plan
    monkeypatch.setattr(run_module, "make_plan", planned_then_replaced)
    report = score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert (report.exit_status, report.reasons) == (3, {"not_the_planned": 1})
    (study,) = table(tmp_path / "out" / "studies.csv")
    assert (study["study_uid"], study["status"]) == ("2.25.7", "partial")


def test_a_folder_that_cannot_be_listed_is_a_row_and_exit_status_3(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "in" / "lower", [0, 5, 10])
    series(tmp_path / "in" / "upper", [15, 20, 25], uid="2.25.78")
    forbid(tmp_path / "in" / "upper", monkeypatch)
    report = score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert (report.exit_status, report.reasons) == (3, {"unreadable": 1})
    assert ("upper", "error", "unreadable") in {
        (row["path"], row["status"], row["reason"]) for row in table(tmp_path / "out" / "slices.csv")
    }

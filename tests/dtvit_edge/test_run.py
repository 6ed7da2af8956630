"""A run into a folder: result files, resume after every kind of interruption, and input that is bad on purpose."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dtvit_edge import run as run_module
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.run import RunReport, run
from dtvit_edge.scoring import Options, open_backend
from tests.conftest import ROOT, real
from tests.dicom_files import dataset, enhanced, save, series
from tests.preprocess_cases import NO_RESIZE, THREE
from tests.tiny_bundle import write_tiny_bundle

OPTIONS = Options(backend="onnxruntime", batch=4, threads=1)


def score(bundle: Bundle, folder: Path, out: Path, **options: Any) -> RunReport:
    overwrite = options.pop("overwrite", False)
    chosen = Options(**{"backend": "onnxruntime", "batch": 4, "threads": 1, **options})
    return run(bundle, [folder], out, chosen, overwrite=overwrite)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("slices.csv", "studies.csv")}


@pytest.fixture(scope="module")
def reference(tiny_bundle: Bundle, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run over the phantoms writes."""
    out = tmp_path_factory.mktemp("reference") / "out"
    score(tiny_bundle, phantom_folder, out)
    return results(out)


def test_every_file_has_a_row_and_every_study_a_result(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path
) -> None:
    report = score(tiny_bundle, phantom_folder, tmp_path / "out")
    rows, studies = table(tmp_path / "out" / "slices.csv"), table(tmp_path / "out" / "studies.csv")
    files = {p.relative_to(phantom_folder).as_posix() for p in phantom_folder.rglob("*") if p.is_file()}
    assert {r["path"] for r in rows} == files
    assert len(studies) == 2
    assert report.exit_status == 0
    assert {r["status"] for r in rows} <= {"scored", "skipped"}
    for study in studies:
        own = [r for r in rows if r["study_uid"] == study["study_uid"]]
        top = sorted((float(r["ich_probability"]) for r in own if r["ich_probability"]), reverse=True)[:3]
        assert float(study["ich_probability"]) == pytest.approx(sum(top) / 3, abs=1e-4)
        assert int(study["scored"]) == sum(r["status"] == "scored" for r in own)
        assert int(study["slices"]) == len(own)


def test_flags_and_locations_follow_the_threshold(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    score(tiny_bundle, phantom_folder, tmp_path / "out")
    rows = [r for r in table(tmp_path / "out" / "slices.csv") if r["status"] == "scored"]
    assert {r["ich"] for r in rows} == {"0", "1"}, "the fixture no longer shows both"
    for row in rows:
        positive = float(row["ich_probability"]) >= 0.5
        assert row["ich"] == str(int(positive))
        locations = {name: float(row[f"p_{name}"]) for name in ("deep", "lobar", "subtentorial")}
        assert sum(locations.values()) == pytest.approx(1, abs=2e-4)
        assert row["location"] == (max(locations, key=lambda k: locations[k]) if positive else "")


def test_slices_without_brain_are_skipped_unless_all_are_kept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    from dtvit_edge.phantom import render_study, write_study

    study = render_study(5, None)
    write_study(study, tmp_path / "in")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    skipped = [r for r in table(tmp_path / "out" / "slices.csv") if r["status"] == "skipped"]
    assert {r["reason"] for r in skipped} == {"no_brain"}
    assert 1 <= len(skipped) <= 4
    score(tiny_bundle, tmp_path / "in", tmp_path / "all", keep_all=True)
    assert {r["status"] for r in table(tmp_path / "all" / "slices.csv")} == {"scored"}


def test_scores_are_the_models(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    """One slice followed by hand: pydicom, preprocessing, ONNX Runtime, softmax."""
    from functools import partial

    from dtvit_edge import backends
    from dtvit_edge.preprocess.cpu import CpuPreprocessor
    from dtvit_edge.spec import PixelEncoding

    score(tiny_bundle, phantom_folder, tmp_path / "out")
    row = next(r for r in table(tmp_path / "out" / "slices.csv") if r["status"] == "scored")
    ds = pydicom.dcmread(phantom_folder / row["path"])
    encoding = PixelEncoding(signed=True, slope=float(ds.RescaleSlope), intercept=float(ds.RescaleIntercept))
    pixels = CpuPreprocessor(tiny_bundle.manifest.spec)(ds.pixel_array.view(np.uint16), encoding).pixels
    with backends.create("onnxruntime", partial(tiny_bundle.model_bytes, "fp32"), "fp32") as backend:
        logits = backend.infer(pixels[None])["ich_logits"][0].astype(float)
    expected = np.exp(logits[1]) / np.exp(logits).sum()
    assert row["ich_probability"] == f"{expected:.4f}"


def test_a_second_run_gives_the_same_bytes(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    score(tiny_bundle, phantom_folder, tmp_path / "out")
    assert results(tmp_path / "out") == reference
    report = score(tiny_bundle, phantom_folder, tmp_path / "out")  # and so does resuming a finished one
    assert results(tmp_path / "out") == reference
    assert report.resumed > 5


class Stops:
    """A real backend that raises after a number of batches."""

    def __init__(self, inner: Any, error: BaseException, after: int) -> None:
        self.inner, self.error, self.left = inner, error, after

    def __enter__(self) -> Stops:
        self.inner.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.inner.__exit__(*details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def infer(self, pixels: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.inner.infer(pixels)


def stopping(error: BaseException, after: int) -> Callable[..., Stops]:
    return lambda *arguments: Stops(open_backend(*arguments), error, after)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_interrupted_run_is_finished_by_the_same_command(
    tiny_bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "open_backend", stopping(KeyboardInterrupt(), after))
        with pytest.raises(KeyboardInterrupt):
            score(tiny_bundle, phantom_folder, out)
    assert not (out / "slices.csv").exists()
    report = score(tiny_bundle, phantom_folder, out)
    assert report.resumed >= after
    assert results(out) == reference


def test_a_device_fault_marks_what_was_in_flight(
    tiny_bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "open_backend", stopping(DeviceFault("gone"), 2))
        with pytest.raises(DeviceFault) as caught:
            score(tiny_bundle, phantom_folder, out)
    assert caught.value.exit_status == 5
    last = json.loads((out / "journal.jsonl").read_text().splitlines()[-1])
    assert last["fault"] == "gone"
    assert len(last["in_flight"]) == 4
    score(tiny_bundle, phantom_folder, out)
    assert results(out) == reference


def test_a_killed_process_loses_at_most_a_chunk(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dtvit_edge", "-q", "score", str(tiny_bundle.path), str(phantom_folder)]
    command += ["-o", str(out), "--backend", "onnxruntime", "--batch", "4", "--threads", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert finished.returncode == 0
    assert results(out) == reference


def test_another_runs_folder_needs_overwrite(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(tiny_bundle, phantom_folder, out)
    before = results(out)
    for options in ({"batch": 8}, {"keep_all": True}, {"any_series": True}):
        with pytest.raises(ConfigError, match="another run; give another folder or --overwrite"):
            score(tiny_bundle, phantom_folder, out, **options)
    assert results(out) == before
    score(tiny_bundle, phantom_folder, out, keep_all=True, overwrite=True)
    assert json.loads((out / "run.json").read_text())["options"]["keep_all"] is True


def test_changed_inputs_are_another_run(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 5, 10])
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    save(tmp_path / "in" / "new", SOPInstanceUID="2.25.99")
    with pytest.raises(ConfigError, match="another run"):
        score(tiny_bundle, tmp_path / "in", tmp_path / "out")


def test_a_folder_with_other_things_in_it_is_left_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 5, 10])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds no run"):
        score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["letter.txt"]


def test_bad_files_are_rows_and_the_run_goes_on(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    series(folder / "good", [0, 5, 10, 15])
    plain = dataset()
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("no picture")
    (folder / "truncated").write_bytes(save(folder / "t").read_bytes()[:-5000])
    (folder / "t").unlink()
    (folder / "locked").write_bytes(b"x")
    os.symlink(folder / "nowhere", folder / "dangling")
    save(folder / "mr", Modality="MR", SOPInstanceUID="2.25.1")
    save(folder / "rgb", SamplesPerPixel=3, PhotometricInterpretation="RGB", SOPInstanceUID="2.25.2")
    save(folder / "palette", PhotometricInterpretation="PALETTE COLOR", SOPInstanceUID="2.25.3")
    save(folder / "huge", Rows=60000, Columns=60000, SOPInstanceUID="2.25.4")
    save(folder / "pixelless", PixelData=None, SOPInstanceUID="2.25.5")
    save(folder / "report", Rows=None, Columns=None, PixelData=None, SOPInstanceUID="2.25.6")
    report = score(tiny_bundle, folder, tmp_path / "out")
    found = {r["path"]: (r["status"], r["reason"]) for r in table(tmp_path / "out" / "slices.csv")}
    assert {k: v for k, v in found.items() if not k.startswith("good")} == {
        "empty": ("error", "empty_file"),
        "text": ("skipped", "not_dicom"),
        "locked": ("skipped", "not_dicom"),
        "dangling": ("error", "unreadable"),
        "truncated": ("error", "truncated"),
        "mr": ("refused", "not_ct"),
        "rgb": ("refused", "color"),
        "palette": ("refused", "color"),
        "huge": ("refused", "matrix_size"),
        "pixelless": ("error", "truncated"),
        "report": ("skipped", "not_an_image"),
    }
    assert report.exit_status == 3
    assert sum(v == ("scored", "") for v in found.values()) == 4
    studies = {r["study_uid"]: r for r in table(tmp_path / "out" / "studies.csv")}
    assert studies["2.25.7"]["status"] == "scored"
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
    assert (study["status"], study["reason"]) == ("partial", "gap")
    assert study["flagged"] in ("", "1")


def test_enhanced_ct_is_scored_frame_by_frame(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    """The same slices as one multi-frame file and as single files get the same scores."""
    hu = [dataset().pixel_array.astype(int) + int(dataset().RescaleIntercept) + shift for shift in (0, 3, 6)]
    intercepts = [-1024.0, -1000.0, -512.0]
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

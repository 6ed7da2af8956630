"""A run into a folder: result files, and resume after every kind of interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.discover import Plan
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.scoring import opening
from dtvit_edge.scoring import run as run_module
from dtvit_edge.scoring.api import open_backend
from dtvit_edge.scoring.result_files import is_finished
from dtvit_edge.spec import PreprocessSpec
from tests.support.data import ROOT
from tests.support.dicom_files import series
from tests.support.scoring_runs import results, score, table
from tests.support.wrapped_backend import WrappedBackend


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
        study_rows = [r for r in rows if r["study_uid"] == study["study_uid"]]
        top = sorted((float(r["ich_probability"]) for r in study_rows if r["ich_probability"]), reverse=True)[:3]
        assert float(study["ich_probability"]) == pytest.approx(sum(top) / 3, abs=1e-4)
        assert int(study["scored"]) == sum(r["status"] == "scored" for r in study_rows)
        assert int(study["slices"]) == len(study_rows)


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


class Stops(WrappedBackend):
    """A real backend that raises after a number of batches."""

    def __init__(self, inner: Any, error: BaseException, after: int) -> None:
        super().__init__(inner)
        self.error, self.left = error, after

    def infer(self, pixels: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().infer(pixels)


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
        patched.setattr(opening, "open_backend", stopping(KeyboardInterrupt(), after))
        with pytest.raises(KeyboardInterrupt):
            score(tiny_bundle, phantom_folder, out)
    assert not is_finished(out)
    report = score(tiny_bundle, phantom_folder, out, workers=3)  # which is no other run
    assert is_finished(out)
    assert report.resumed >= after
    assert results(out) == reference


def test_an_untrained_location_head_leaves_its_cells_empty_in_a_resumed_run_too(
    tiny_bundle: Bundle,
    tiny_bundle_without_location: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", stopping(KeyboardInterrupt(), 5))
        with pytest.raises(KeyboardInterrupt):
            score(tiny_bundle_without_location, phantom_folder, out)
    with pytest.raises(ConfigError, match="another run"):  # the mark is part of the run's identity
        score(tiny_bundle, phantom_folder, out)
    assert score(tiny_bundle_without_location, phantom_folder, out).resumed >= 5
    for name, columns in (
        ("slices.csv", ("location", "p_deep", "p_lobar", "p_subtentorial")),
        ("studies.csv", ("location",)),
    ):
        (tmp_path / name).write_bytes(reference[name])
        known = table(tmp_path / name)
        assert any(row["location"] for row in known), "the fixture no longer shows a location"
        assert table(out / name) == [row | dict.fromkeys(columns, "") for row in known]
    assert json.loads((out / "run.json").read_text())["bundle"]["untrained_heads"] == ["location"]


def test_a_device_fault_marks_what_was_in_flight(
    tiny_bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", stopping(DeviceFault("gone"), 2))
        with pytest.raises(DeviceFault) as caught:
            score(tiny_bundle, phantom_folder, out)
    assert caught.value.exit_status == 5
    last = json.loads((out / "journal.jsonl").read_text().splitlines()[-1])
    assert last["fault"] == "gone"
    assert len(last["in_flight"]) == 4
    score(tiny_bundle, phantom_folder, out)
    assert results(out) == reference


def test_averaged_slices_share_place_and_answer_in_an_interrupted_run_too(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def three_each(plan: Plan, spec: PreprocessSpec) -> list[SliceImage]:
        return [
            SliceImage(series.headers[i : i + 3], i // 3 + 1)
            for series in plan.series
            for i in range(0, len(series.headers), 3)
        ]

    monkeypatch.setattr(run_module, "images_of", three_each)
    score(tiny_bundle, phantom_folder, tmp_path / "whole")
    rows = [row for row in table(tmp_path / "whole" / "slices.csv") if row["place"]]
    images: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        images.setdefault((row["series_uid"], row["place"]), []).append(row)
    assert len(rows) > 40 and {len(image) for image in images.values()} <= {1, 2, 3}
    for image in images.values():
        assert len({(row["status"], row["ich_probability"], row["p_deep"]) for row in image}) == 1
    assert len({row["ich_probability"] for row in rows}) > 10
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", stopping(KeyboardInterrupt(), 2))
        with pytest.raises(KeyboardInterrupt):
            score(tiny_bundle, phantom_folder, tmp_path / "out")
    assert score(tiny_bundle, phantom_folder, tmp_path / "out", workers=2).resumed == 24, "two batches of four images"
    assert results(tmp_path / "out") == results(tmp_path / "whole")


class Faulty(WrappedBackend):
    """A backend of which some answers, counted from 0, are not finite."""

    def __init__(self, inner: Any, faults: Container[int]) -> None:
        super().__init__(inner)
        self.faults, self.answered = faults, 0

    def infer(self, pixels: Any) -> Any:
        logits = super().infer(pixels)
        for row in logits["ich_logits"]:
            row[:] = np.nan if self.answered in self.faults else row
            self.answered += 1
        return logits


def faulty(*faults: int) -> Callable[..., Faulty]:
    return lambda *arguments: Faulty(open_backend(*arguments), faults)


def test_an_answer_that_is_not_finite_is_an_error_row_that_the_same_command_scores_again(
    tiny_bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", faulty(5, 6))
        report = score(tiny_bundle, phantom_folder, out)
    assert report.reasons.get("model_fault") == 2 and report.exit_status == 3
    rows = [row for row in table(out / "slices.csv") if row["reason"] == "model_fault"]
    assert {(row["status"], row["ich_probability"], row["ich"]) for row in rows} == {("error", "", "")}
    (study,) = (study for study in table(out / "studies.csv") if study["study_uid"] == rows[0]["study_uid"])
    assert study["flagged"] in ("", "1") and study["status"] == "partial"
    again = score(tiny_bundle, phantom_folder, out)
    slices = sum(study.slices for study in report.studies)
    assert (again.resumed, again.processed) == (slices - 2, 2)
    assert results(out) == reference


def test_answers_that_are_not_finite_one_after_the_other_end_the_run(
    tiny_bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_backend", faulty(6, 7, 8))
        with pytest.raises(DeviceFault, match="3 images in a row with numbers that are not finite") as caught:
            score(tiny_bundle, phantom_folder, out)
    assert caught.value.exit_status == 5 and not is_finished(out)
    last = json.loads((out / "journal.jsonl").read_text().splitlines()[-1])
    assert len(last["in_flight"]) == 4 and "not finite" in last["fault"]
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
        with pytest.raises(
            ConfigError, match=r"another run \(options .* there, .* here\); give another folder or --overwrite"
        ):
            score(tiny_bundle, phantom_folder, out, **options)
    assert results(out) == before
    score(tiny_bundle, phantom_folder, out, keep_all=True, overwrite=True)
    assert json.loads((out / "run.json").read_text())["options"]["keep_all"] is True


def test_a_folder_with_other_things_in_it_is_left_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 5, 10])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds no run"):
        score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["letter.txt"]

"""Thresholds on labelled slices: the one that a person would choose, and nothing else of the bundle changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dtvit_edge.bundle import THRESHOLDS, Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.phantom import render_study, slice_dataset
from evaluation.labelled_scores import ScoredSlices, score_labelled
from evaluation.labels import LabelledSlice, read_labels
from evaluation.threshold import fit_temperature, highest_threshold, reliability, slice_level, study_level, tune
from tests.support.tiny_bundle import write_tiny_bundle


def scored(rows: Sequence[tuple[str, bool | None, float]], tmp_path: Path) -> ScoredSlices:
    """Slices of (patient, label, probability); NaN is one that the runtime would skip."""
    file = tmp_path / "a.png"
    file.touch()
    slices = tuple(LabelledSlice(file, f"{i}", patient, ich, None) for i, (patient, ich, _) in enumerate(rows))
    p = np.array([value for *_, value in rows])
    return ScoredSlices(slices, p, np.log(p / (1 - p)), {"backend": "none"}, 3)


# Of twenty positives, 0.05 to 1.00; of twenty negatives, 0.01 to 0.39.
TWENTY = [(f"p{i}", True, i / 20 - 0.001) for i in range(1, 21)] + [(f"n{i}", False, i / 50) for i in range(20)]
TWENTY = [(patient, ich, max(p, 0.01)) for patient, ich, p in TWENTY]


@pytest.mark.parametrize(("sensitivity", "last"), [(0.95, 0.099), (1.0, 0.049), (0.5, 0.549), (0.51, 0.499)], ids=str)
def test_the_threshold_is_the_one_chosen_by_hand(tmp_path: Path, sensitivity: float, last: float) -> None:
    """0.95 of twenty are nineteen: the second lowest positive, 0.099, has to be found and the lowest may be lost."""
    tuned = tune(scored(TWENTY, tmp_path), sensitivity).slice
    assert last - 1e-5 <= tuned.threshold < last
    assert tuned.sensitivity.value >= sensitivity > tuned.sensitivity.value - 1 / 20
    negatives = [p for _, ich, p in TWENTY if ich is False]
    assert tuned.specificity.value == pytest.approx(np.mean([p < last for p in negatives]))
    assert tuned.sensitivity.low <= tuned.sensitivity.value <= tuned.sensitivity.high


def test_intervals_know_how_few_patients_there_are(tmp_path: Path) -> None:
    """All of ten positives found is no certainty, and classes that are told apart give no interval of the AUC."""
    apart = [(f"p{i}", True, 0.9 + i / 1000) for i in range(10)] + [(f"n{i}", False, i / 50) for i in range(10)]
    tuned = tune(scored(apart, tmp_path), 1.0).slice
    assert (tuned.sensitivity.value, tuned.sensitivity.high) == (1, 1)
    assert tuned.sensitivity.low == pytest.approx(0.025 ** (1 / 10))
    assert tuned.auc.value == 1 and np.isnan([tuned.auc.low, tuned.auc.high]).all()
    assert tuned.to_dict()["auc"] == [1, None, None]


def test_thin_slices_are_said_since_score_averages_them(tmp_path: Path) -> None:
    rows = scored(TWENTY, tmp_path)
    assert not any("thin" in note for note in tune(rows, 0.95).notes)
    tuned = tune(replace(rows, thin=7), 0.95)
    assert any(note.startswith("7 slices are thin") for note in tuned.notes)
    assert tuned.thresholds.evidence is not None and tuned.thresholds.evidence["thin"] == 7


@pytest.mark.parametrize(("thickness", "thin"), [("1.25", 1), ("5", 0)], ids=["thin", "thick"])
def test_a_slice_is_thin_by_its_header(tmp_path: Path, thickness: str, thin: int) -> None:
    study = render_study(0, "deep", [10])
    dataset = slice_dataset(study, study.slices[0])
    dataset.SliceThickness = thickness
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    assert score_labelled(bundle, [LabelledSlice(tmp_path / "a.dcm", "a.dcm", "p", True, None)]).thin == thin


def test_a_study_is_a_patients_three_highest_slices(tmp_path: Path) -> None:
    rows = [
        ("a", True, 0.9), ("a", False, 0.6), ("a", None, 0.3), ("a", False, 0.1), ("a", True, np.nan),
        ("b", False, 0.2), ("b", False, 0.4),
        ("c", False, 0.2), ("c", None, 0.4),
        ("d", True, np.nan),
    ]  # fmt: skip
    level = study_level(scored(rows, tmp_path))
    assert level.patients == ("a", "b") and level.truth.tolist() == [1, 0]
    np.testing.assert_allclose(level.probability, [0.6, 0.3])
    assert slice_level(scored(rows, tmp_path)).truth.tolist() == [1, 0, 0, 0, 0, 0]


def test_reliability_counts_every_slice_once(tmp_path: Path) -> None:
    bins = reliability(slice_level(scored(TWENTY, tmp_path)))
    assert sum(b.count for b in bins) == 40 and len(bins) == 10
    assert (bins[9].count, bins[9].positive) == (2, 1.0)
    assert bins[9].mean == pytest.approx((0.949 + 0.999) / 2)
    empty = reliability(slice_level(scored(TWENTY[:1], tmp_path)))[5]
    assert (empty.count, empty.mean, empty.positive) == (0, None, None)


def test_temperature_finds_the_factor_of_overconfident_logits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-logits))
    shown = 1 / (1 + np.exp(-3 * logits))
    rows = [(f"{i}", bool(ich), float(p)) for i, (ich, p) in enumerate(zip(labels, shown, strict=True))]
    assert fit_temperature(scored(rows, tmp_path)) == pytest.approx(3, rel=0.1)
    apart = [(f"{i}", i % 2 == 1, 0.9 if i % 2 else 0.1) for i in range(40)]
    assert fit_temperature(scored(apart, tmp_path)) is None


@pytest.mark.parametrize("ich", [True, False], ids=["positives", "negatives"])
def test_too_few_of_either_are_refused_in_words(tmp_path: Path, ich: bool) -> None:
    few = [row for row in TWENTY if row[1] is not ich] + [row for row in TWENTY if row[1] is ich][:9]
    with pytest.raises(ConfigError, match="at least 10 of each are needed"):
        tune(scored(few, tmp_path), 0.95)


def test_positives_without_any_probability_have_no_threshold(tmp_path: Path) -> None:
    rows = [(patient, ich, 0.0 if ich else 0.5) for patient, ich, _ in TWENTY]
    with np.errstate(divide="ignore"), pytest.raises(VerdictError, match="needs a threshold of 0"):
        highest_threshold(slice_level(scored(rows, tmp_path)), 0.95)
    certain = [(patient, ich, 1.0 if ich else 0.5) for patient, ich, _ in TWENTY]
    with np.errstate(divide="ignore"):
        assert 0.9999 < highest_threshold(slice_level(scored(certain, tmp_path)), 0.95) < 1


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """24 patients of two pictures; every other one has a brighter brain, which is called a haemorrhage."""
    lines = ["path,patient,ich,location"]
    for patient in range(24):
        for index in range(2):
            image = np.zeros((256, 256), np.uint8)
            brightness = 100 + patient + 60 * (patient % 2) + index
            cv2.ellipse(image, (128, 128), (80, 100), 0, 0, 360, brightness, -1)
            cv2.imwrite(str(tmp_path / f"{patient}-{index}.png"), image)
            lines.append(f"{patient}-{index}.png,P{patient},{patient % 2},")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "labels.csv"


def test_the_command_sets_it_and_score_uses_it(
    grey: Path, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    assert main(["-q", "threshold", str(bundle.path), "--labels", str(grey), "--sensitivity", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "sensitivity" in said and "share positive" in said and THRESHOLDS in said
    opened = Bundle.open(bundle.path)
    assert opened.digest == bundle.digest
    answers = score_labelled(opened, read_labels(grey))
    positives = sorted(answers.probability[[bool(s.ich) for s in answers.slices]], reverse=True)
    needed = positives[21]  # 0.9 of 24 slices are 21.6
    assert needed - 1e-5 <= opened.thresholds.slice.value < needed
    source = "tuned for a sensitivity of 0.9 on 24 positive and 24 negative slices of 24 patients"
    assert opened.thresholds.slice.source == source
    assert opened.thresholds.study.source.endswith("12 positive and 12 negative studies of 24 patients")
    evidence = opened.thresholds.evidence
    assert evidence is not None and len(evidence["slice"]["reliability"]) == 10
    assert main(["-q", "score", str(bundle.path), str(phantom_folder), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["thresholds"]["slice"]["source"] == source
    capsys.readouterr()
    assert main(["threshold", str(bundle.path), "--reset"]) == 0
    assert not (bundle.path / THRESHOLDS).exists() and Bundle.open(bundle.path).thresholds.slice.value == 0.5


def test_thresholds_of_another_manifest_are_mended(grey: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    arguments = ["-q", "threshold", str(bundle.path), "--labels", str(grey)]
    assert main(arguments) == 0
    stale = json.loads((bundle.path / THRESHOLDS).read_text()) | {"manifest": "0" * 64}
    (bundle.path / THRESHOLDS).write_text(json.dumps(stale))
    assert main(["inspect", str(bundle.path)]) == 2
    assert main(arguments) == 0 and main(["inspect", str(bundle.path)]) == 0


@pytest.mark.parametrize(
    ("labels", "sensitivity", "said"),
    [(8, "0.95", "8 positive and 8 negative slices are labelled"), (10, "nan", "the sensitivity is nan")],
    ids=["too few", "no number"],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_scored(
    grey: Path,
    tiny_bundle: Bundle,
    labels: int,
    sensitivity: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("evaluation.labelled_scores.score_labelled", None)
    lines = grey.read_text().splitlines()[: 1 + 2 * labels]  # two slices a patient, of whom every other is positive
    grey.write_text("\n".join(lines) + "\n")
    arguments = ["threshold", str(tiny_bundle.path), "--labels", str(grey), "--sensitivity", sensitivity]
    assert main(arguments) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--reset", "--labels", "a.csv"]], ids=["neither", "both"])
def test_labels_or_reset_is_asked_for(
    tiny_bundle: Bundle, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["threshold", str(tiny_bundle.path), *arguments]) == 2
    assert "give either --labels CSV or --reset" in capsys.readouterr().err

"""From trained runs to the paper's tables and figures."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import digest_file
from evaluation.images import ImageSet
from evaluation.metrics import ich_figures, location_figures
from evaluation.records import append, read
from export.checkpoint import load_checkpoint, save_checkpoint
from export.model import DTViT, normalise
from tests.support.squares import SMALL
from training import augment, encoder_comparison, report
from training.config import TrainConfig
from training.evaluate import TrainingRun, evaluate_model, predict, spec_of
from training.paper_tables import encoders
from training.train import BEST, RUN, make_split, train

CONFIG = TrainConfig(
    encoder="test_resnet", training="synthetic", epochs=4, batch=8, optimizer="adamw", learning_rate=0.003, spec=SMALL
)
RUNS = {
    "augmented": CONFIG,
    "plain": replace(CONFIG, augment=False),
    "convnext": replace(CONFIG, encoder="test_convnext"),
    "paper": replace(CONFIG, paper_protocol=True),
}


@pytest.fixture(scope="module")
def phantomlike(small_squares: ImageSet) -> ImageSet:
    """The squares under names of phantoms, so that Fig. 1 finds something to draw."""
    slices = [replace(s, path=f"phantom-60-{10 + i % 5}") for i, s in enumerate(small_squares.slices)]
    return replace(small_squares, slices=slices)


@pytest.fixture(scope="module")
def runs(phantomlike: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    for name, config in RUNS.items():
        train(phantomlike, config, folder / name)
    return {name: folder / name for name in RUNS}


@pytest.fixture(scope="module")
def written(phantomlike: ImageSet, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    evaluations = [evaluate_model(path, phantomlike) for path in runs.values()]
    out = tmp_path_factory.mktemp("report")
    report.write_report(out, phantomlike, evaluations, SMALL, seed=0, command="the command")
    return out


def test_trainings_of_one_split_are_compared_and_the_papers_protocol_is_beside_the_clean_one(
    phantomlike: ImageSet, runs: dict[str, Path], tmp_path: Path
) -> None:
    evaluations = [evaluate_model(path, phantomlike) for path in runs.values()]
    record = encoder_comparison.record_of(evaluations, "squares", phantomlike, "the command")
    assert record is not None and len(record.samples) == 3 and min(map(min, record.samples.values())) > 0
    append(tmp_path / "records.jsonl", record)
    (kept,) = read(tmp_path / "records.jsonl")
    ich, location, leak = encoders(kept)
    arms = {("test_resnet", "yes"), ("test_resnet", "no"), ("test_convnext", "yes")}
    assert {row[:2] for row in ich.rows} == {row[:2] for row in location.rows} == arms
    assert "the command" in ich.markdown() and "highest is" in ich.markdown()
    assert [row[0] for row in leak.rows] == ["test_resnet"] and leak.rows[0][1] != "0 %"
    assert encoder_comparison.record_of(evaluations[:1], "squares", phantomlike, "the command") is None


def test_a_run_is_judged_on_its_own_test_part(phantomlike: ImageSet, runs: dict[str, Path]) -> None:
    evaluation = evaluate_model(runs["augmented"], phantomlike)
    assert evaluation.slices == make_split(phantomlike.slices, CONFIG).test
    assert evaluation.ich is not None and evaluation.location is not None
    assert evaluation.ich.slices == len(evaluation.slices)
    assert evaluation.ich.figures["accuracy"].value > 0.9  # squares are easy
    assert evaluation.location.slices == sum(phantomlike.slices[i].ich is True for i in evaluation.slices)
    truth = [bool(phantomlike.slices[i].ich) for i in evaluation.slices]
    assert sum(evaluation.ich.confusion[1]) == sum(truth)


def test_a_checkpoint_alone_is_judged_on_everything(phantomlike: ImageSet, runs: dict[str, Path]) -> None:
    evaluation = evaluate_model(runs["augmented"] / BEST, phantomlike)
    assert evaluation.run is None
    assert evaluation.slices == tuple(range(96))


def test_predictions_are_the_models_own(phantomlike: ImageSet, runs: dict[str, Path]) -> None:
    model = load_checkpoint(runs["convnext"] / BEST).model
    ich, location = predict(model, phantomlike, [5, 0], SMALL)
    pixels = augment.batch(phantomlike, (5, 0), augment.evaluation(SMALL))[0]
    assert pixels.shape == (2, 1, SMALL.crop, SMALL.crop)
    with torch.no_grad():
        expected = model(normalise(pixels, SMALL))
    np.testing.assert_allclose(ich, expected[0].softmax(1)[:, 1], atol=1e-6)
    np.testing.assert_allclose(location, expected[1].softmax(1), atol=1e-6)


def test_an_untrained_location_head_is_not_assessed(phantomlike: ImageSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_checkpoint(
        DTViT("test_resnet"),
        tmp_path / "w.safetensors",
        training="synthetic",
        untrained_heads=("location",),
        spec=SMALL,
    )
    evaluation = evaluate_model(tmp_path / "w.safetensors", phantomlike)
    assert evaluation.location is None and evaluation.ich is not None


def test_a_run_on_other_data_or_none_is_refused(phantomlike: ImageSet, runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another labelled set"):
        evaluate_model(runs["convnext"], replace(phantomlike, digest="other"))
    with pytest.raises(ConfigError, match="holds no finished epoch"):
        TrainingRun.read(tmp_path)


def test_models_of_different_preprocessing_do_not_mix(runs: dict[str, Path], tmp_path: Path) -> None:
    other = replace(SMALL, mask_threshold=20)
    save_checkpoint(DTViT("test_resnet"), tmp_path / "w.safetensors", training="synthetic", spec=other)
    assert spec_of([tmp_path / "w.safetensors"]) == other
    with pytest.raises(ConfigError, match="different preprocessing"):
        spec_of([runs["convnext"], tmp_path / "w.safetensors"])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "leakage", "fig1", "fig3", "fig4", "locations"])
def test_every_table_and_figure_comes_as_text_and_numbers_and_a_figure_as_a_picture(written: Path, name: str) -> None:
    if name.startswith("fig"):
        assert (written / f"{name}.png").stat().st_size > 2000
    assert rows(written / f"{name}.csv")
    text = (written / f"{name}.md").read_text()
    assert "data squares" in text and "seed 0" in text and re.search(r"torch \d", text)
    assert text in (written / "report.md").read_text()


def test_table_1_counts_the_set_and_the_split(phantomlike: ImageSet, written: Path) -> None:
    by_label = {row["label"]: row for row in rows(written / "table1.csv")}
    split = make_split(phantomlike.slices, CONFIG)
    assert (
        by_label["all"]["slices"] == "96"
        and by_label["no_ich"]["slices"] == "48"
        and by_label["deep"]["slices"] == "24"
    )
    assert by_label["all"]["train, balanced"] == str(len(split.train))
    assert by_label["all"]["train"] == str(len(set(split.train)))
    assert by_label["all"]["test"] == str(len(split.test))


def test_comparisons_hold_runs_that_differ_in_nothing_else(written: Path) -> None:
    assert {row["model"] for row in rows(written / "table2.csv")} == {"augmented", "plain"}
    assert {row["model"] for row in rows(written / "table3.csv")} == {"augmented", "convnext"}
    assert {row["model"] for row in rows(written / "leakage.csv")} == {"augmented", "paper"}
    leaked = next(row["split"] for row in rows(written / "leakage.csv") if row["model"] == "paper")
    assert re.fullmatch(r"the paper's: [1-9]\d* of \d+ test images are also trained on", leaked)


def test_fig_3_shows_the_histories_of_both_arms(runs: dict[str, Path], written: Path) -> None:
    points = rows(written / "fig3.csv")
    assert {row["arm"] for row in points} == {"with augmentation", "without augmentation"}
    history = TrainingRun.read(runs["plain"]).history
    last = next(r for r in points if (r["arm"], r["epoch"], r["part"]) == ("without augmentation", "4", "train"))
    assert float(last["loss"]) == history[-1]["train"]["loss"]


def test_fig_4_holds_the_confusion_matrices(phantomlike: ImageSet, runs: dict[str, Path], written: Path) -> None:
    evaluation = evaluate_model(runs["convnext"], phantomlike)
    cells = [row for row in rows(written / "fig4.csv") if row["model"] == "convnext" and row["head"] == "location"]
    assert evaluation.location is not None
    assert [int(row["slices"]) for row in cells] == [n for line in evaluation.location.confusion for n in line]


def test_the_report_says_what_differs_and_what_is_missing(phantomlike: ImageSet, written: Path, tmp_path: Path) -> None:
    text = (written / "report.md").read_text()
    assert "The data are phantoms" in text and "research use only" in text and "the command" in text
    assert "Table 2 as the paper prints it" in text and "### Where the paper contradicts itself" in text
    assert re.search(r"ends higher than without \| (not )?so here \| validation accuracy of haemorrhage ends at", text)
    torch.manual_seed(0)
    save_checkpoint(DTViT("test_resnet"), tmp_path / "w.safetensors", training="synthetic", spec=SMALL)
    alone = [evaluate_model(tmp_path / "w.safetensors", phantomlike)]
    text = report.write_report(tmp_path / "out", phantomlike, alone, SMALL, seed=0, command="x").read_text()
    for missing in ("Table 2", "Table 3", "Fig. 3", "Leakage"):
        assert re.search(rf"### {re.escape(missing)}[^\n]*\n\nNot here", text)
    assert not (tmp_path / "out" / "table2.csv").exists()


def test_a_set_without_locations_is_reported_without_them(small_squares: ImageSet, tmp_path: Path) -> None:
    slices = [replace(s, path="phantom-60-12", location=None) for s in small_squares.slices]
    blind = replace(small_squares, slices=slices)
    path = tmp_path / "w.safetensors"
    save_checkpoint(DTViT("test_resnet"), path, training="synthetic", untrained_heads=("location",), spec=SMALL)
    text = report.write_report(
        tmp_path / "out", blind, [evaluate_model(path, blind)], SMALL, seed=0, command="x"
    ).read_text()
    assert "no location is labelled" in text
    assert not (tmp_path / "out" / "locations.csv").exists()
    assert not [column for column in rows(tmp_path / "out" / "models.csv")[0] if column.startswith("location")]


def test_the_command_judges_a_folder_of_phantoms(
    phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = phantom_folder / "truth.csv"
    torch.manual_seed(0)
    save_checkpoint(DTViT("test_resnet"), tmp_path / "w.safetensors", training="synthetic")
    arguments = ["evaluate", str(truth), str(tmp_path / "w.safetensors"), "-o", str(tmp_path / "out"), "--workers", "1"]
    assert main(["-q", *arguments, "--record", str(tmp_path / "records.jsonl")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"w: haemorrhage accuracy 0\.\d{4}, auc [01]\.\d{4} on \d+ slices of 2 patients", said)
    assert (tmp_path / "out" / "report.md").is_file()
    (record,) = read(tmp_path / "records.jsonl")
    assert record.summary["ich_slices"] > 40 and len(record.samples["ich"]) == 2
    assert f"accuracy {record.summary['ich_accuracy']:.4f}" in said
    assert record.digests["weights"] == digest_file(tmp_path / "w.safetensors")
    line = "dtvit-edge evaluate SLICES w.safetensors --out OUT --workers 1"
    assert record.options["command"] == line and line in (tmp_path / "out" / "report.md").read_text()


def test_what_the_labels_do_not_allow_is_not_assessed_in_words() -> None:
    bleeds = ich_figures(np.ones(3, np.int64), np.array([0.9, 0.8, 0.2]), ["P"] * 3)
    assert report.in_words(bleeds) == "accuracy 0.6667, auc not assessed on 3 slices of 1 patient"
    deep = location_figures(np.zeros(2, np.int64), np.eye(3)[:2], ["P", "Q"])
    assert report.in_words(deep) == "accuracy 0.5000, auc_macro not assessed on 2 slices of 2 patients"
    assert report.in_words(None) == "not assessed"


def test_the_command_refuses_a_training_that_is_of_other_data(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-q", "evaluate", "phantoms:1@60", str(runs["convnext"]), "-o", str(tmp_path / "out")]) == 2
    assert "another labelled set" in capsys.readouterr().err
    assert json.loads((runs["convnext"] / RUN).read_text())["data"] == "squares"

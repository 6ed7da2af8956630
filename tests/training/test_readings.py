"""What the paper's figures can mean: counts that give them, and means that cannot."""

from __future__ import annotations

import pytest

from training.published import METRICS, PaperRow, facts, paper_rows
from training.readings import figures, macro_fits, readings


def row(table: int, classifier: int, model: str = "ViT", *, augmentation: bool = True) -> PaperRow:
    (found,) = [
        r for r in paper_rows()
        if (r.table, r.classifier, r.model, r.augmentation) == (table, classifier, model, augmentation)
    ]  # fmt: skip
    return found


def test_the_equations_on_a_small_confusion_matrix_by_hand() -> None:
    assert figures(tp=6, fn=2, fp=3, tn=9) == pytest.approx(
        {"accuracy": 15 / 20, "precision": 6 / 9, "recall": 6 / 8, "f1": 12 / 17, "specificity": 9 / 12}
    )


def test_the_equations_are_those_that_the_paper_prints() -> None:
    counts = {"TP": 6, "FN": 2, "FP": 3, "TN": 9}
    ours = figures(tp=6, fn=2, fp=3, tn=9)
    ours["sensitivity"] = ours["recall"]
    for equation in facts()["equations"]:
        printed = eval(equation["formula"], {"__builtins__": {}}, counts | ours)
        assert printed == pytest.approx(ours[equation["metric"]]), equation


@pytest.mark.parametrize("asked", [row(2, 1), row(3, 1)], ids=lambda asked: asked.name)
def test_classifier_1_counts_slices_without_haemorrhage_as_positive(asked: PaperRow) -> None:
    best, other = readings(asked)
    assert best.name == "no_ich is positive" and len(other.fits) < len(best.fits) == len(METRICS)
    assert {metric: round(value, 3) for metric, value in figures(*best.counts).items()} == asked.printed
    assert sum(best.counts) == facts()["test_set"]["images"]


@pytest.mark.parametrize("asked", [r for r in paper_rows() if r.classifier == 2], ids=lambda asked: asked.name)
def test_classifier_2_is_no_one_location_and_no_mean_of_them(asked: PaperRow) -> None:
    assert not any(len(reading.fits) == len(METRICS) for reading in readings(asked))
    assert len(macro_fits(asked)) < len(METRICS) - 1  # F1 is not asked of a mean


def test_a_mean_that_is_one_is_not_ruled_out() -> None:
    """600 of 606 deep, 475 of 479 lobar, 590 of 596 subtentorial; every wrong one goes to the next location."""
    hits, sizes = (600, 475, 590), (606, 479, 596)
    alarms = (6, 6, 4)
    mean = {
        "accuracy": sum(hits) / sum(sizes),
        "precision": sum(h / (h + a) for h, a in zip(hits, alarms, strict=True)) / 3,
        "recall": sum(h / n for h, n in zip(hits, sizes, strict=True)) / 3,
        "f1": 0.99,
        "specificity": sum(1 - a / (1681 - n) for a, n in zip(alarms, sizes, strict=True)) / 3,
    }
    printed = {metric: round(value, 3) for metric, value in mean.items()}
    assert macro_fits(PaperRow(2, 2, "ViT", True, printed)) == ("accuracy", "precision", "recall", "specificity")

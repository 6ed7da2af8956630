from __future__ import annotations

import numpy as np
import pytest

from dtvit_edge.spec import ICH_HEAD
from evaluation.metrics import Answers, auc, difference, ich_figures
from training.encoder_comparison import Judged, ranking, rows

PATIENTS = [str(i // 10) for i in range(300)]
TRUTH = np.array([i % 2 for i in range(300)], np.int64)


def judged(encoder: str, noise: float, seed: int, *, augmented: bool = False) -> Judged:
    """A model whose answers are the truth behind so much noise."""
    said = TRUTH + np.random.default_rng(seed).normal(0, noise, len(TRUTH))
    probability = 1 / (1 + np.exp(-(said - 0.5) * 4))
    return Judged(encoder, augmented, ich_figures(TRUTH, probability, PATIENTS, resamples=0), probability, 2.0 + seed)


def test_an_encoder_ranks_below_another_where_the_paired_interval_leaves_no_doubt() -> None:
    made = rows(ICH_HEAD, TRUTH, PATIENTS, [judged("poor", 2.0, 1), judged("good", 0.4, 2), judged("as good", 0.41, 3)])
    assert [row.encoder for row in made][2] == "poor" and made[2].ranks_below
    assert not made[0].ranks_below and not made[1].ranks_below
    assert (made[0].behind, made[0].behind_low, made[0].behind_high) == (0, 0, 0)
    said = ranking(made)
    assert "below it is poor" in said and "not told apart from it is" in said
    assert "below 0.9 in at least one seed has poor" in said


def test_seeds_of_one_encoder_and_arm_are_one_row_and_their_spread_is_shown() -> None:
    models = [judged("vit", noise, seed) for noise, seed in ((0.4, 1), (0.8, 2), (0.6, 3))]
    other_arm = judged("vit", 0.5, 4, augmented=True)
    made = {row.augmented: row for row in rows(ICH_HEAD, TRUTH, PATIENTS, [*models, other_arm])}
    aucs = [auc(TRUTH, model.probability) for model in models]
    assert made[False].auc == pytest.approx(np.mean(aucs))
    assert (made[False].least, made[False].most) == (min(aucs), max(aucs))
    assert made[False].low < made[False].auc < made[False].high
    assert made[False].minutes == (3.0, 4.0, 5.0) and made[True].seeds == 1
    accuracies = [model.figures.figures["accuracy"].value for model in models]
    assert made[False].figures["accuracy"] == pytest.approx(np.mean(accuracies))


def test_a_difference_is_taken_on_the_same_draws_of_the_same_patients_and_on_others_of_other_ones() -> None:
    good, poor = judged("a", 0.5, 1).probability, judged("b", 1.5, 2).probability
    answers = Answers(TRUTH, [good], PATIENTS)
    same = difference(auc, answers, answers, resamples=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    apart = difference(auc, answers, Answers(TRUTH, [good], [f"other {p}" for p in PATIENTS]), resamples=50)
    assert apart.value == 0 and apart.low < 0 < apart.high
    better = difference(auc, answers, Answers(TRUTH, [poor], PATIENTS), resamples=200)
    assert 0 < better.low < better.value < better.high

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from evaluation import metrics
from evaluation.metrics import ich_figures, location_figures


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 200)


def test_figures_by_hand() -> None:
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    p = np.array([0.9, 0.8, 0.6, 0.2, 0.7, 0.4, 0.3, 0.2, 0.1, 0.1])
    head = ich_figures(truth, p, [f"P{i}" for i in range(10)])
    values = {name: interval.value for name, interval in head.figures.items()}
    assert values["accuracy"] == 0.8
    assert values["precision"] == values["recall"] == values["f1"] == 0.75
    assert values["specificity"] == pytest.approx(5 / 6)
    assert values["auc"] == pytest.approx((6 + 6 + 5 + 2.5) / 24)
    assert head.confusion == ((5, 1), (1, 3))
    assert (head.slices, head.patients) == (10, 10)


def test_the_threshold_itself_is_positive() -> None:
    head = ich_figures(np.array([1, 0]), np.array([0.5, 0.4999]), ["a", "b"])
    assert head.figures["accuracy"].value == 1


def test_patients_are_drawn_not_slices() -> None:
    """Twenty copies of each slice add no information: the interval must not shrink."""
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    p = np.clip(truth * 0.3 + rng.normal(0.35, 0.25, 40), 0, 1)
    names = [f"P{i}" for i in range(40)]
    few = ich_figures(truth, p, names).figures["accuracy"]
    many = ich_figures(np.repeat(truth, 20), np.repeat(p, 20), [n for n in names for _ in range(20)]).figures[
        "accuracy"
    ]
    assert many.value == few.value
    assert many.high - many.low == pytest.approx(few.high - few.low, abs=0.06)
    loose = ich_figures(np.repeat(truth, 20), np.repeat(p, 20), [str(i) for i in range(800)]).figures["accuracy"]
    assert loose.high - loose.low < 0.5 * (few.high - few.low)


def test_intervals_hold_the_value_and_are_seeded() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 200)
    p = np.clip(truth * 0.5 + rng.normal(0.25, 0.2, 200), 0, 1)
    names = [f"P{i // 5}" for i in range(200)]
    head = ich_figures(truth, p, names)
    assert head == ich_figures(truth, p, names)
    assert all(i.low <= i.value <= i.high for i in head.figures.values())


def test_one_class_alone_has_no_auc_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = ich_figures(np.ones(6, dtype=int), np.full(6, 0.9), list("aabbcc"))
    assert math.isnan(head.figures["auc"].value)
    assert math.isnan(head.figures["specificity"].value)
    assert head.figures["recall"].value == 1


def test_locations_macro_and_per_class() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    said = np.array([0, 1, 1, 1, 2, 0])
    p = np.full((6, 3), 0.1)
    p[np.arange(6), said] = 0.8
    head = location_figures(truth, p, list("abcdef"))
    values = {name: interval.value for name, interval in head.figures.items()}
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert (values["recall_deep"], values["recall_lobar"], values["recall_subtentorial"]) == (0.5, 1, 0.5)
    assert values["recall_macro"] == pytest.approx(2 / 3)
    assert (values["precision_deep"], values["precision_subtentorial"]) == (0.5, 1)
    assert head.confusion == ((1, 1, 0), (0, 2, 0), (1, 0, 1))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 labels, 1 probabilities"):
        ich_figures(np.array([0, 1]), np.array([0.5]), ["a", "b"])
    with pytest.raises(ConfigError, match="not finite"):
        ich_figures(np.array([0, 1]), np.array([0.5, math.nan]), ["a", "b"])

"""The interval of a share of slices: exact where slices are patients, wider where patients answer alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from evaluation.shares import effective_count, share


@pytest.mark.parametrize(("found", "of"), [(0, 12), (3, 20), (19, 20), (12, 12)], ids=str)
def test_one_slice_a_patient_gives_clopper_and_pearsons_interval(found: int, of: int) -> None:
    hits = np.arange(of) < found
    interval, exact = share(hits, [f"p{i}" for i in range(of)]), binomtest(found, of).proportion_ci(method="exact")
    assert interval.value == pytest.approx(found / of)
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_slices_of_one_patient_that_answer_alike_count_once() -> None:
    hits, patients = np.repeat(np.arange(20) < 15, 10), np.repeat([f"p{i}" for i in range(20)], 10)
    assert effective_count(hits, patients.tolist()) == pytest.approx(20, rel=0.06)
    unrelated = np.tile(np.arange(10) < 8, 20)
    assert effective_count(unrelated, patients.tolist()) == 200


def test_a_share_of_all_is_no_certainty() -> None:
    """Twelve of twelve patients: a bootstrap says 1 to 1, while 0.74 is not excluded; their 48 slices say no more."""
    interval = share(np.ones(48, bool), [f"p{i // 4}" for i in range(48)])
    assert interval.high == 1 and interval.low == pytest.approx(0.025 ** (1 / 12))


def test_nothing_has_no_share() -> None:
    interval = share(np.zeros(0, bool), [])
    assert all(math.isnan(v) for v in (interval.value, interval.low, interval.high))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Patients of five slices whose own shares scatter around 0.9: at least 93 of 100 intervals hold it."""
    rng, held = np.random.default_rng(0), 0
    patients = [f"p{i}" for i in range(30) for _ in range(5)]
    for _ in range(200):
        own = rng.beta(9, 1, 30)
        interval = share(rng.random(150) < np.repeat(own, 5), patients)
        held += interval.low <= 0.9 <= interval.high
    assert held >= 0.93 * 200

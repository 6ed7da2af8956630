from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.measure.statistics import MARGIN, Ratio, least_samples, percentiles, ratio, two_modes


@pytest.mark.parametrize(("quantile", "least"), [(0.50, 11), (0.90, 64), (0.95, 130), (0.99, 662)])
def test_the_floors_are_mlperfs(quantile: float, least: int) -> None:
    assert least_samples(quantile) == least


def test_a_percentile_needs_its_samples() -> None:
    assert percentiles(range(10)) == {}
    assert set(percentiles(range(63))) == {"p50"}
    assert set(percentiles(range(64))) == {"p50", "p90"}
    assert set(percentiles(range(661))) == {"p50", "p90", "p95"}
    quantiles = percentiles(np.arange(1001.0))
    assert quantiles == {"p50": 500.0, "p90": 900.0, "p95": 950.0, "p99": 990.0}


def noisy(seed: int, factor: float = 1.0, count: int = 200) -> np.ndarray:
    """Times around 10 ms with a tail, as a quiet machine gives them."""
    rng = np.random.default_rng(seed)
    return factor * (10 + rng.normal(0, 0.1, count) + rng.exponential(0.2, count))


@pytest.mark.parametrize("seed", range(5))
def test_a_repetition_is_no_change_and_five_percent_is_found(seed: int) -> None:
    same = ratio(noisy(seed), noisy(seed + 100), paired=False)
    assert same.verdict == "no change" and same.low < same.value < same.high
    slower = ratio(noisy(seed, 1.05), noisy(seed + 100), paired=False)
    assert slower.verdict == "slower" and slower.low > 1 + MARGIN
    assert ratio(noisy(seed + 100), noisy(seed, 1.05), paired=False).verdict == "faster"


def test_a_small_difference_between_two_runs_is_not_called_a_change() -> None:
    change = ratio(noisy(0, 1.01, 2000), noisy(1, count=2000), paired=False)
    assert change.low > 1 and change.verdict == "no change"


def test_too_few_samples_cannot_tell() -> None:
    assert ratio([1.0], [1.0], paired=False).verdict == "cannot tell"
    rng = np.random.default_rng(0)
    assert ratio(rng.uniform(1, 3, 12), rng.uniform(1, 3, 12), paired=False).verdict == "cannot tell"


def test_pairs_see_what_a_shared_drift_hides() -> None:
    drift = np.linspace(1, 3, 60)
    rng = np.random.default_rng(0)
    a, b = 1.05 * drift * rng.normal(1, 0.002, 60), drift * rng.normal(1, 0.002, 60)
    paired, apart = ratio(a, b, paired=True), ratio(a, b, paired=False)
    assert paired.high - paired.low < (apart.high - apart.low) / 2
    assert paired.value == pytest.approx(1.05, abs=0.02)


def test_units_take_out_what_the_machine_did() -> None:
    drift = np.concatenate([np.full(100, 1.0), np.full(100, 1.3)])
    slower_machine = 1.1 * drift
    change = ratio(slower_machine * noisy(1), drift[::-1] * noisy(2), paired=False,
                  units=(slower_machine * 3, drift[::-1] * 3))  # fmt: skip
    assert change.verdict == "no change"
    assert ratio(slower_machine * noisy(1), drift[::-1] * noisy(2), paired=False).verdict != "no change"
    seeded = ratio(1.1 * noisy(1, 1.05), noisy(2), paired=False, units=([3.3], [3.0]))
    assert seeded.verdict == "slower" and seeded.value == pytest.approx(1.05, abs=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert ratio(noisy(0), noisy(1), paired=False, seed=3) == ratio(noisy(0), noisy(1), paired=False, seed=3)
    assert Ratio(1.0, 0.5, 1.5).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("fast", "slow", "share"), [(2.0, 3.0, 0.5), (2.0, 2.3, 0.3), (70.0, 110.0, 0.85)], ids=["half", "near", "mostly"]
)
def test_two_modes_are_found_by_their_middles(fast: float, slow: float, share: float) -> None:
    rng = np.random.default_rng(0)
    which = rng.permutation(64) < share * 64
    samples = np.where(which, slow, fast) * (1 + 0.01 * rng.standard_normal(64))
    found = two_modes(samples.tolist())
    assert found is not None and found == pytest.approx((fast, slow), rel=0.01)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.normal(2, 0.2, 64),
        lambda rng: rng.uniform(2, 3, 64),
        lambda rng: 2 + rng.lognormal(-1, 0.8, 64),
        lambda rng: np.concatenate([rng.normal(2, 0.02, 62), rng.normal(9, 0.1, 2)]),
    ],
    ids=["normal", "uniform", "skewed", "two outliers"],
)
def test_one_middle_is_hardly_ever_taken_for_two(draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    assert sum(two_modes(draw(rng).tolist()) is not None for _ in range(400)) <= 4


def test_modes_that_hardly_differ_and_few_samples_say_nothing() -> None:
    assert two_modes([2.0] * 32 + [2.08] * 32) is None
    assert two_modes([2.0] * 19 + [3.0] * 20) is None
    assert two_modes([2.0] * 20 + [3.0] * 20) == (2.0, 3.0)
    assert two_modes([2.0] * 64) is None

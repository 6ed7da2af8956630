"""What `tune` measures, on a machine whose times and answers are given; its clock moves with the work alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle, Threshold, Thresholds, write_thresholds
from dtvit_edge.bundle.device_profile import DeviceProfile
from dtvit_edge.errors import VerdictError
from dtvit_edge.scoring.candidates import Setting
from dtvit_edge.scoring.tuning import MOST_OPEN, Trial, Tuner, median_interval, promising
from tests.support.tuning_world import BATCH, World, make_world, write_tunable_bundle

FP32, INT8, HINTED = ("fp32", None), ("int8", None), ("int8", "bf16")
FASTER_BELOW = {FP32: 0.009, INT8: 0.003, HINTED: 0.001}


@pytest.fixture
def passed(tmp_path: Path) -> Bundle:
    return write_tunable_bundle(tmp_path / "b.dtvit", int8="passed", hinted="passed")


def tune(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, seconds: dict[Any, float] = FASTER_BELOW, **more: Any
) -> tuple[DeviceProfile, World]:
    world = make_world(monkeypatch, bundle, seconds, **more)
    return Tuner(bundle, 20.0, world.clock).run(), world


def chosen(profile: DeviceProfile) -> tuple[str, str | None]:
    return profile.chosen.precision, profile.chosen.hint


def test_the_fastest_that_passed_is_chosen_with_its_batch(monkeypatch: pytest.MonkeyPatch, passed: Bundle) -> None:
    profile, _ = tune(monkeypatch, passed)
    assert chosen(profile) == HINTED and profile.chosen.batch == BATCH
    assert profile.measured[0].configuration == profile.chosen and profile.why.startswith("the fastest: 1 ms a slice")
    assert profile.measured[0].ms == pytest.approx(1.0, rel=0.01) and profile.measured[0].rounds >= 6
    assert {(m.configuration.precision, m.configuration.batch) for m in profile.measured} >= {("fp32", 1), ("fp32", 4)}
    assert profile.left_out["tensorrt"] == "no GPU is here"


@pytest.mark.parametrize("verdict", ["failed", "inconclusive", "not gated", "not assessed"])
def test_a_faster_configuration_that_the_gate_did_not_pass_is_never_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verdict: str
) -> None:
    said = {} if verdict == "not assessed" else {"hinted": verdict}
    bundle = write_tunable_bundle(tmp_path / "b.dtvit", int8="passed", **said)
    profile, world = tune(monkeypatch, bundle)
    assert chosen(profile) == INT8 and profile.left_out["openvino int8+bf16"] == f"gate: {verdict}"
    assert all((o.precision, o.hint) != HINTED for o in world.opened)


def test_fp32_is_chosen_where_nothing_passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = write_tunable_bundle(tmp_path / "b.dtvit", int8="failed", hinted="failed")
    profile, _ = tune(monkeypatch, bundle)
    assert chosen(profile) == FP32 and {m.configuration.precision for m in profile.measured} == {"fp32"}


def test_a_configuration_that_misses_the_golden_tolerance_here_is_never_chosen(
    monkeypatch: pytest.MonkeyPatch, passed: Bundle
) -> None:
    profile, _ = tune(monkeypatch, passed, off={HINTED: 60.0})
    assert chosen(profile) == INT8
    assert any("differs from the golden logits by 60, allowed 50" in why for why in profile.left_out.values())


def test_one_that_is_not_finite_is_never_chosen(monkeypatch: pytest.MonkeyPatch, passed: Bundle) -> None:
    profile, _ = tune(monkeypatch, passed, off={HINTED: float("nan"), INT8: float("nan")})
    assert chosen(profile) == FP32


@pytest.mark.parametrize(
    ("threshold", "changed"), [(0.45, ""), (0.5, "1 of 3 studies"), (0.305, "1 of 9 slices")], ids=str
)
def test_a_configuration_that_changes_a_flag_at_the_set_threshold_is_never_chosen(
    monkeypatch: pytest.MonkeyPatch, passed: Bundle, threshold: float, changed: str
) -> None:
    # A golden slice has 0.3048, and the mean of the last three is 0.4997.
    level = Threshold(threshold, "set by the test")
    write_thresholds(passed.path, passed.digest, Thresholds(level, level))
    profile, _ = tune(monkeypatch, Bundle.open(passed.path), off={HINTED: 0.01, INT8: 0.01})
    assert chosen(profile) == (FP32 if changed else HINTED)
    said = [why for why in profile.left_out.values() if why.startswith("changes flags of golden slices: ")]
    assert set(said) == ({f"changes flags of golden slices: {changed}"} if changed else set())
    assert profile.thresholds == {"slice": threshold, "study": threshold}


def test_times_that_overlap_choose_the_more_exact_and_say_so(monkeypatch: pytest.MonkeyPatch, passed: Bundle) -> None:
    profile, _ = tune(
        monkeypatch,
        passed,
        {FP32: 0.009, INT8: 0.001005, HINTED: 0.001},
        jitter=lambda n: 1 + 0.4 * (n * 7919 % 101) / 101,
    )
    assert chosen(profile) == INT8 and profile.why.startswith("the most exact of those that cannot be told")
    assert "int8+bf16" in profile.why


def test_candidates_are_timed_in_turns_so_that_a_machine_that_slows_down_slows_them_all(
    monkeypatch: pytest.MonkeyPatch, passed: Bundle
) -> None:
    def slower_and_slower(number: int) -> float:
        return 1 + number / 100

    profile, _ = tune(monkeypatch, passed, jitter=slower_and_slower)
    assert chosen(profile) == HINTED


def test_one_lucky_look_decides_nothing(monkeypatch: pytest.MonkeyPatch, passed: Bundle) -> None:
    # The first calls of fp32, which is opened first, take a fiftieth of what they take later.
    profile, _ = tune(monkeypatch, passed, jitter=lambda number: 0.02 if number < 9 else 1.0)
    assert chosen(profile) == HINTED


def test_one_look_does_not_rule_the_exact_one_out() -> None:
    fast = [Trial(Setting("openvino", "int8", None, threads), 4, 0.0, [1.0]) for threads in range(1, 9)]
    exact = Trial(Setting("onnxruntime", "fp32"), 4, 0.0, [5.0])
    raced = promising([*fast, exact, Trial(Setting("openvino", "fp32"), 4, 0.0, [6.0])])
    assert raced[-1] is exact and len(raced) == MOST_OPEN


def test_threads_are_one_and_all_and_the_faster_is_chosen(monkeypatch: pytest.MonkeyPatch, passed: Bundle) -> None:
    assert tune(monkeypatch, passed, per_thread=1.8)[0].chosen.threads == 2
    profile, _ = tune(monkeypatch, passed, per_thread=0.6)
    assert profile.chosen.threads == 1 and {m.configuration.threads for m in profile.measured} == {1, 2}


def test_the_stated_time_is_kept_and_what_was_not_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, passed: Bundle
) -> None:
    profile, _ = tune(monkeypatch, passed, opening=5.0)
    assert profile.seconds < 20.0 + 5.0 * MOST_OPEN
    assert any(why.startswith("not reached in 20 s; --seconds") for why in profile.left_out.values())
    assert "fp32" in {m.configuration.precision for m in profile.measured}
    assert tune(monkeypatch, passed, {key: 0.1 * s for key, s in FASTER_BELOW.items()})[0].seconds <= 20.0
    assert tune(monkeypatch, passed, {key: 10 * s for key, s in FASTER_BELOW.items()})[0].seconds < 21.0


def test_a_backend_that_refuses_is_left_out_with_its_words(monkeypatch: pytest.MonkeyPatch, passed: Bundle) -> None:
    with pytest.raises(VerdictError, match=r"no configuration answers.*openvino refuses the fp32 model") as caught:
        tune(monkeypatch, passed, refuses=frozenset({"openvino"}))
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(("count", "rank"), [(1, 0), (5, 0), (6, 0), (9, 1), (20, 5), (100, 39)])
def test_a_medians_interval_is_that_of_the_sign_test(count: int, rank: int) -> None:
    values = [float((i * 37) % count) for i in range(count)]
    assert median_interval(values) == (rank, count - 1 - rank)

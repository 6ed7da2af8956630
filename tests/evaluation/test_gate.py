"""The gate says yes, no, and that it does not know."""

from __future__ import annotations

import json

import click
import numpy as np
import pytest

from dtvit_edge.backend import Logits
from evaluation.agreement import DecisionRule
from evaluation.gate import FAILED, INCONCLUSIVE, NOT_GATED, PASSED, Compared, SliceLabels, compare_with_fp32
from evaluation.limits import Limits, exceeds, limit_options, split_limits

N = 600


def logits(seed: int = 0) -> Logits:
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 4, N)
    margin = np.where(np.abs(margin) < 0.2, 0.5, margin)  # nobody sits on the threshold
    location = rng.normal(0, 3, (N, 3))
    location[np.arange(N), np.arange(N) % 3] += 9
    return {
        "ich_logits": np.stack([-margin / 2, margin / 2], 1).astype(np.float32),
        "location_logits": location.astype(np.float32),
    }


def labels(labelled: bool = True) -> SliceLabels:
    truth = (logits()["ich_logits"][:, 1] + np.random.default_rng(9).normal(0, 1, N) > 0).astype(np.int64)
    return SliceLabels(
        tuple(f"d{i}" for i in range(N)),
        tuple(f"P{i // 10}" for i in range(N)),
        truth if labelled else np.full(N, -1),
    )


def changed(flips: int = 0, located: int = 0, noise: float = 0.01) -> Logits:
    """The reference with a little noise, some decisions turned over and some locations among the flagged."""
    altered = {
        k: v + np.random.default_rng(1).normal(0, noise, v.shape).astype(np.float32) for k, v in logits().items()
    }
    order = np.argsort(np.abs(logits()["ich_logits"][:, 1]))
    altered["ich_logits"][order[:flips]] = altered["ich_logits"][order[:flips], ::-1]
    flagged = np.flatnonzero(logits()["ich_logits"][:, 1] > 0)
    altered["location_logits"][flagged[:located]] = np.roll(altered["location_logits"][flagged[:located]], 1, axis=1)
    return altered


def test_a_faithful_precision_passes() -> None:
    verdict = compare_with_fp32("int8", logits(), changed(), labels())
    assert (verdict.verdict, verdict.reasons) == (PASSED, ())
    assert verdict.ich.flips == 0 and verdict.ich.slices == N
    assert verdict.location is not None and verdict.location.flips == 0
    assert verdict.location.slices == int((logits()["ich_logits"][:, 1] > 0).sum())
    assert verdict.auc is not None and verdict.auc_reference is not None
    assert (
        verdict.sensitivity is not None and verdict.sensitivity[1] <= verdict.sensitivity[0] <= verdict.sensitivity[2]
    )
    assert 0 < verdict.rms < 0.02
    json.dumps(verdict.to_dict())


@pytest.mark.parametrize(("flips", "expected"), [(3, PASSED), (4, FAILED)])
def test_flips_of_the_haemorrhage_head_are_counted(flips: int, expected: str) -> None:
    verdict = compare_with_fp32("int8", logits(), changed(flips=flips), labels(labelled=False))
    assert (verdict.ich.flips, verdict.verdict) == (flips, expected)
    assert expected == PASSED or "ich: 99.33% of decisions agree, 99.50% are asked" in verdict.reasons


def test_locations_count_only_where_the_reference_flags() -> None:
    verdict = compare_with_fp32("int8", logits(), changed(located=5), labels())
    assert verdict.location is not None and verdict.location.flips == 5
    assert verdict.verdict == FAILED and any(r.startswith("location:") for r in verdict.reasons)
    elsewhere = changed()
    silent = logits()["ich_logits"][:, 1] < 0
    elsewhere["location_logits"][silent] = np.roll(elsewhere["location_logits"][silent], 1, axis=1)
    assert compare_with_fp32("int8", logits(), elsewhere, labels()).verdict == PASSED


def test_an_untrained_location_head_is_not_assessed() -> None:
    verdict = compare_with_fp32(
        "int8", logits(), changed(located=50), labels(), rule=DecisionRule(location_trained=False)
    )
    assert verdict.location is None and verdict.verdict == PASSED


def test_labels_of_one_class_or_none_leave_the_auc_out() -> None:
    one = SliceLabels(labels().digests, labels().patients, np.ones(N, np.int64))
    for those in (one, labels(labelled=False)):
        verdict = compare_with_fp32("int8", logits(), changed(), those)
        assert verdict.auc is None and verdict.sensitivity is None and verdict.verdict == PASSED


def test_a_moved_auc_fails() -> None:
    worse = changed()
    worse["ich_logits"] += np.random.default_rng(3).normal(0, 1.5, (N, 2)).astype(np.float32)
    verdict = compare_with_fp32("int8", logits(), worse, labels(), limits=Limits(agreement=0.0))
    assert verdict.verdict == FAILED and verdict.reasons[0].startswith("AUC")


def test_few_slices_are_inconclusive_unless_they_fail() -> None:
    few = SliceLabels(labels().digests[:100], labels().patients[:100], labels().ich[:100])
    reference = {k: v[:100] for k, v in logits().items()}
    good = compare_with_fp32("int8", reference, {k: v[:100] for k, v in changed().items()}, few)
    assert good.verdict == INCONCLUSIVE and good.reasons == ("100 slices, 500 are asked",)
    turned = {k: v[:, ::-1].copy() for k, v in reference.items()}
    assert compare_with_fp32("int8", reference, turned, few).verdict == FAILED


@pytest.mark.parametrize("output", ["ich_logits", "location_logits"])
@pytest.mark.parametrize(
    ("broken", "reasons"),
    [
        (("logits",), {"a logit is not finite"}),
        (("reference",), {"a logit of fp32 is not finite"}),
        (("logits", "reference"), {"a logit is not finite", "a logit of fp32 is not finite"}),
    ],
    ids=["this", "fp32", "both"],
)
def test_logits_that_are_not_finite_fail(output: str, broken: tuple[str, ...], reasons: set[str]) -> None:
    compared = {name: {k: v.copy() for k, v in logits().items()} for name in ("reference", "logits")}
    for name in broken:
        compared[name][output][7] = np.nan
    limits = Limits(agreement=0.0, auc=1.0)  # so that nothing else decides
    verdict = compare_with_fp32("fp16", **compared, labels=labels(), limits=limits)
    assert verdict.verdict == FAILED and reasons <= set(verdict.reasons)
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["verdict"] == FAILED


def test_the_worst_slices_are_named_by_digest() -> None:
    altered = changed(noise=0.0)
    altered["ich_logits"][42] = altered["ich_logits"][42, ::-1]
    verdict = compare_with_fp32("int8", logits(), altered, labels())
    assert verdict.worst[0][0] == "d42"
    assert verdict.worst[0][1] == verdict.ich.largest_difference


def test_the_threshold_is_the_shipped_one() -> None:
    shifted = {k: v.copy() for k, v in logits().items()}
    shifted["ich_logits"][:, 1] += 0.6
    at_half = compare_with_fp32("int8", logits(), shifted, labels(labelled=False))
    assert at_half.ich.flips > 0
    assert compare_with_fp32("int8", logits(), shifted, labels(labelled=False), rule=DecisionRule(1e-9)).ich.flips == 0


def away(name: str, altered: Logits, count: int = N) -> Compared:
    """The first slices under a shift of the scanner."""
    some = SliceLabels(labels().digests[:count], labels().patients[:count], labels().ich[:count])
    return Compared(name, {k: v[:count] for k, v in logits().items()}, {k: v[:count] for k, v in altered.items()}, some)


def test_a_precision_that_is_fine_at_home_and_fails_under_a_shift_is_refused() -> None:
    shifts = [away("noise", changed()), away("HU +10", changed(flips=7))]
    verdict = compare_with_fp32("int8", logits(), changed(), labels(False), elsewhere=shifts)
    assert verdict.verdict == FAILED
    assert "HU +10: ich: 98.83% of decisions agree, 99.00% are asked" in verdict.reasons
    assert all(reason.startswith("HU +10: ") for reason in verdict.reasons)
    assert [(one.name, one.verdict) for one in verdict.elsewhere] == [("noise", PASSED), ("HU +10", FAILED)]
    assert compare_with_fp32("int8", logits(), changed(), labels(False), elsewhere=shifts[:1]).verdict == PASSED
    json.dumps(verdict.to_dict())


@pytest.mark.parametrize(("flips", "expected"), [(6, PASSED), (7, FAILED)])
def test_a_shift_has_a_limit_of_its_own(flips: int, expected: str) -> None:
    limits = Limits(difference=0.9)
    shifted = [away("tilt", changed(flips=flips))]
    verdict = compare_with_fp32("int8", logits(), changed(), labels(False), elsewhere=shifted, limits=limits)
    assert verdict.verdict == expected


@pytest.mark.parametrize("slices", [1, 20, 500])
def test_fewer_shifted_slices_than_can_tell_prove_nothing_however_few_are_asked_for_at_home(slices: int) -> None:
    for count, expected in ((1, INCONCLUSIVE), (99, INCONCLUSIVE), (100, PASSED)):
        shifted = [away("tilt", changed(), count=count)]
        limits = Limits(slices=slices)
        verdict = compare_with_fp32("int8", logits(), changed(), labels(False), elsewhere=shifted, limits=limits)
        assert verdict.verdict == expected


@pytest.mark.parametrize(("moved", "expected"), [(3, PASSED), (4, FAILED)])
@pytest.mark.parametrize("where", ["home", "away"])
def test_half_a_per_cent_of_the_probabilities_may_differ_by_more(moved: int, expected: str, where: str) -> None:
    altered = changed(noise=0.0)
    far = np.flatnonzero(np.abs(logits()["ich_logits"][:, 1]) > 0.5)
    rows = far[np.argsort(np.abs(logits()["ich_logits"][far, 1]))][:moved]
    altered["ich_logits"][rows] *= 3  # no decision changes
    home, elsewhere = (altered, []) if where == "home" else (changed(), [away("noise", altered)])
    verdict = compare_with_fp32("int8", logits(), home, labels(False), elsewhere=elsewhere)
    assert verdict.verdict == expected and verdict.ich.flips == 0
    assert expected == PASSED or "99.5% of the probabilities differ by at most" in verdict.reasons[0]


def test_a_study_that_changes_its_flag_is_counted_even_where_no_slice_does() -> None:
    before = {"ich_logits": np.zeros((N, 2), np.float32), "location_logits": np.zeros((N, 3), np.float32)}
    before["ich_logits"][:, 1] = -4
    tops = np.arange(0, N, 10)[:, None] + np.arange(3)
    before["ich_logits"][tops[:4], 1] = (3.0, -1.3, -1.3)  # of mean 0.512, at a threshold of 0.5
    after = {k: v.copy() for k, v in before.items()}
    after["ich_logits"][tops[:4], 1] = (3.0, -1.55, -1.55)  # of mean 0.434
    rule = DecisionRule(study_threshold=0.45, location_trained=False)
    verdict = compare_with_fp32("int8", before, after, labels(False), rule=rule)
    assert verdict.studies is not None and (verdict.studies.slices, verdict.studies.flips) == (60, 4)
    assert verdict.ich.flips == 0 and verdict.verdict == FAILED
    assert verdict.reasons == ("studies: 93.33% of decisions agree, 99.50% are asked",)
    one = {k: np.concatenate([after[k][:10], before[k][10:]]) for k in before}
    verdict = compare_with_fp32("int8", before, one, labels(False), rule=rule)
    assert verdict.verdict == INCONCLUSIVE and verdict.reasons[0].endswith("99.50% are asked; too few to tell")


def test_one_flip_among_sixty_slices_is_chance_and_five_are_not() -> None:
    assert (exceeds(0, 60, 0.01), exceeds(1, 60, 0.01), exceeds(5, 60, 0.01)) == (False, None, True)
    assert (exceeds(1, 100, 0.01), exceeds(2, 100, 0.01), exceeds(1, 199, 0.005)) == (False, True, None)
    assert (exceeds(0, 60, 0.0), exceeds(1, 60, 0.0), exceeds(0, 60, -0.01)) == (False, True, True)
    few = [away("noise", changed(flips=1), count=60), away("zoom", changed(), count=60)]
    order = np.argsort(np.abs(logits()["ich_logits"][:60, 1]))
    few[0].logits["ich_logits"][order[0]] = few[0].reference["ich_logits"][order[0], ::-1]
    verdict = compare_with_fp32("int8", logits(), changed(), labels(False), elsewhere=few)
    assert verdict.verdict == INCONCLUSIVE
    assert "noise: ich: 98.33% of decisions agree, 99.00% are asked; too few to tell" in verdict.reasons
    assert "noise, zoom: 60 slices, 100 are asked" in verdict.reasons, "what holds for several is said once"


def test_every_option_of_the_gate_sets_its_limit() -> None:
    given: list[tuple[Limits, dict[str, object]]] = []

    @click.command()
    @click.option("--slices")
    @limit_options
    def command(**chosen: object) -> None:
        given.append(split_limits(chosen))

    asked = ["--agreement", "0.9", "--delta-auc", "0.1", "--least-slices", "7", "--shift-agreement", "0.8",
             "--difference", "0.2", "--shift-slices", "9"]  # fmt: skip
    for arguments in ([*asked, "--slices", "mine"], []):
        command.main(arguments, standalone_mode=False)
    assert given == [(Limits(0.9, 0.1, 7, 0.8, 0.2, 9), {"slices": "mine"}), (Limits(), {"slices": None})]


@pytest.mark.parametrize(
    ("limits", "options"),
    [
        (Limits(agreement=0.0), "--agreement"),
        (Limits(auc=1.0), "--delta-auc"),
        (Limits(shift_agreement=0.0), "--shift-agreement"),
        (Limits(difference=1.0), "--difference"),
        (Limits(shift_slices=0), "--shift-slices"),
        (Limits(agreement=0.0, auc=1.0), "--agreement, --delta-auc"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_with_a_limit_switched_off_nothing_is_passed(limits: Limits, options: str) -> None:
    verdict = compare_with_fp32("int8", logits(), changed(), labels(False), limits=limits)
    assert (verdict.verdict, verdict.reasons) == (NOT_GATED, (f"limits were switched off: {options}",))
    turned = {k: v[:, ::-1].copy() for k, v in logits().items()}
    assert compare_with_fp32("int8", logits(), turned, labels(False), limits=limits).verdict == FAILED

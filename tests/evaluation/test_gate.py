"""The gate says yes, no, and that it does not know."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation.gate import FAILED, INCONCLUSIVE, PASSED, Logits, SliceLabels, compare_with_fp32
from evaluation.limits import Limits

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
    verdict = compare_with_fp32("int8", logits(), changed(), labels(), threshold=0.5)
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
    verdict = compare_with_fp32("int8", logits(), changed(flips=flips), labels(labelled=False), threshold=0.5)
    assert (verdict.ich.flips, verdict.verdict) == (flips, expected)
    assert expected == PASSED or "ich: 99.33% of decisions agree, 99.50% are asked" in verdict.reasons


def test_locations_count_only_where_the_reference_flags() -> None:
    verdict = compare_with_fp32("int8", logits(), changed(located=5), labels(), threshold=0.5)
    assert verdict.location is not None and verdict.location.flips == 5
    assert verdict.verdict == FAILED and any(r.startswith("location:") for r in verdict.reasons)
    elsewhere = changed()
    silent = logits()["ich_logits"][:, 1] < 0
    elsewhere["location_logits"][silent] = np.roll(elsewhere["location_logits"][silent], 1, axis=1)
    assert compare_with_fp32("int8", logits(), elsewhere, labels(), threshold=0.5).verdict == PASSED


def test_an_untrained_location_head_is_not_assessed() -> None:
    verdict = compare_with_fp32("int8", logits(), changed(located=50), labels(), threshold=0.5, location_trained=False)
    assert verdict.location is None and verdict.verdict == PASSED


def test_labels_of_one_class_or_none_leave_the_auc_out() -> None:
    one = SliceLabels(labels().digests, labels().patients, np.ones(N, np.int64))
    for those in (one, labels(labelled=False)):
        verdict = compare_with_fp32("int8", logits(), changed(), those, threshold=0.5)
        assert verdict.auc is None and verdict.sensitivity is None and verdict.verdict == PASSED


def test_a_moved_auc_fails() -> None:
    worse = changed()
    worse["ich_logits"] += np.random.default_rng(3).normal(0, 1.5, (N, 2)).astype(np.float32)
    verdict = compare_with_fp32("int8", logits(), worse, labels(), threshold=0.5, limits=Limits(agreement=0.0))
    assert verdict.verdict == FAILED and verdict.reasons[0].startswith("AUC")


def test_few_slices_are_inconclusive_unless_they_fail() -> None:
    few = SliceLabels(labels().digests[:100], labels().patients[:100], labels().ich[:100])
    reference = {k: v[:100] for k, v in logits().items()}
    good = compare_with_fp32("int8", reference, {k: v[:100] for k, v in changed().items()}, few, threshold=0.5)
    assert good.verdict == INCONCLUSIVE and good.reasons == ("100 slices, 500 are asked",)
    turned = {k: v[:, ::-1].copy() for k, v in reference.items()}
    assert compare_with_fp32("int8", reference, turned, few, threshold=0.5).verdict == FAILED


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
    verdict = compare_with_fp32("fp16", **compared, labels=labels(), threshold=0.5, limits=limits)
    assert verdict.verdict == FAILED and reasons <= set(verdict.reasons)


def test_the_worst_slices_are_named_by_digest() -> None:
    altered = changed(noise=0.0)
    altered["ich_logits"][42] = altered["ich_logits"][42, ::-1]
    verdict = compare_with_fp32("int8", logits(), altered, labels(), threshold=0.5)
    assert verdict.worst[0][0] == "d42"
    assert verdict.worst[0][1] == verdict.ich.largest_difference


def test_the_threshold_is_the_shipped_one() -> None:
    shifted = {k: v.copy() for k, v in logits().items()}
    shifted["ich_logits"][:, 1] += 0.6
    at_half = compare_with_fp32("int8", logits(), shifted, labels(labelled=False), threshold=0.5)
    assert at_half.ich.flips > 0
    assert compare_with_fp32("int8", logits(), shifted, labels(labelled=False), threshold=1e-9).ich.flips == 0

"""Error against time: what a budget asks for, and what it gets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from calibration.budget import Budget, Point, choose, curve, steps, without_costliest
from calibration.options import config_of
from calibration.quantise import quantise
from calibration.quantizable import weight_ops
from calibration.ranges import Range
from calibration.sensitivity import rank
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.precisions import LOWER
from evaluation.limits import LIMIT_OPTIONS

POINTS = (Point(0, 0.09, 0.40), Point(1, 0.06, 0.42), Point(2, 0.04, 0.41), Point(4, 0.01, 0.60))


@pytest.mark.parametrize(
    ("text", "kept"), [("rms=0.1", 0), ("rms=0.05", 2), ("latency=0.5", 2), ("latency=0.41", 2), ("latency=0.7", 4)]
)
def test_an_error_takes_as_few_ops_as_it_needs_and_a_time_as_many_as_it_allows(text: str, kept: int) -> None:
    assert choose(POINTS, Budget.parse(text)).kept == kept


@pytest.mark.parametrize(
    ("text", "least"),
    [("rms=0.001", "with 4 ops in higher precision it is 0.01"), ("latency=0.2", "with 0 ops in higher precision")],
)
def test_a_budget_that_nothing_keeps_is_refused_with_the_nearest(text: str, least: str) -> None:
    with pytest.raises(VerdictError, match=least):
        choose(POINTS, Budget.parse(text))


@pytest.mark.parametrize("text", ["0.05", "rms", "rms=", "rms=-1", "rms=inf", "rms=nan", "speed=2"])
def test_what_is_no_budget_is_refused_with_the_syntax(text: str) -> None:
    with pytest.raises(ConfigError, match="expected rms=ERROR or latency=SHARE"):
        Budget.parse(text)


def test_the_option_reaches_the_configuration() -> None:
    limits = dict.fromkeys(LIMIT_OPTIONS, 0.5)
    common = {"count": 4, "recipe": "linear", "alpha": 0.5, "smooth": True, "seed": 0, "only": ()}
    assert config_of(**common, budget="rms=0.05", **limits).budget == Budget("rms", 0.05)
    assert config_of(**common, budget=None, **limits).only == LOWER
    assert config_of(**{**common, "only": ("int8",)}, budget=None, **limits).only == ("int8",)
    assert config_of(**common, budget=None, **limits).budget is None


def test_the_points_double_and_end_at_half_of_the_ops() -> None:
    assert list(steps(24)) == [0, 1, 2, 4, 8, 16, 24] and list(steps(4)) == [0, 1, 2, 4] and list(steps(0)) == [0]


def test_every_point_is_a_graph_that_was_run(two_block_bundle: Bundle) -> None:
    fp32 = two_block_bundle.model_bytes("fp32")
    model = onnx.load_model_from_string(fp32)
    ops = weight_ops(model)[:4]
    ranges = {name: Range(-5.0, 5.0) for op in ops for name in op.activations}
    pixels = np.random.default_rng(0).integers(0, 255, (2, 1, 224, 224), dtype=np.uint8)
    reference = logits_of(fp32, "fp32", pixels, batch=2)
    costs = rank(model, ops, ranges, pixels, reference)
    points = curve(lambda some: quantise(model, some, ranges), fp32, ops, costs, pixels, reference, most=2)
    assert [point.kept for point in points] == [0, 1, 2]
    assert all(point.rms > 0 and point.time > 0 for point in points)
    last = without_costliest(ops, costs, 2)
    assert {op.name for op in last} == {cost.name for cost in costs[2:]}
    again = logits_of(quantise(model, last, ranges), "int8", pixels, batch=2)
    squares = [float(((reference[n].astype(float) - again[n]) ** 2).mean()) for n in reference]
    assert points[2].rms == pytest.approx((sum(squares) / 2) ** 0.5, rel=1e-3)

"""Activations, histograms and the four ranges."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.activations import BINS, Histogram, channel_ranges, histograms
from calibration.quantizable import QuantizableOp, weight_ops
from calibration.ranges import HEADROOM, METHODS, Range, half_above, minmax, mse, percentile
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from export.golden import golden_pixels

Case = tuple[bytes, tuple[QuantizableOp, ...], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def case(small_bundle: Bundle) -> Case:
    data = small_bundle.model_bytes("fp32")
    return data, weight_ops(onnx.load_model_from_string(data)), golden_pixels(small_bundle.manifest.spec)


def all_ranges(case: Case, pixels: NDArray[np.uint8], batch: int) -> dict[str, dict[str, float]]:
    data, ops, _ = case
    seen = channel_ranges(data, ops, pixels, batch=batch)
    counted = histograms(data, {k: float(v.largest.max()) for k, v in seen.items()}, pixels, batch=batch)
    return {m: {k: f(h) for k, h in counted.items()} for m, f in METHODS.items() if m != "entropy"}


def test_order_and_batch_size_change_no_range(case: Case) -> None:
    pixels = case[2]
    one = all_ranges(case, pixels, 4)
    two = all_ranges(case, pixels[::-1].copy(), 5)
    for method, ranges in one.items():
        for name, value in ranges.items():
            assert two[method][name] == pytest.approx(value, rel=1e-6), (method, name)


def test_histograms_count_every_value_once(case: Case) -> None:
    data, ops, pixels = case
    seen = channel_ranges(data, ops, pixels)
    counted = histograms(data, {k: float(v.largest.max()) for k, v in seen.items()}, pixels)
    first = ops[0].activation
    assert counted[first].counts.sum() == len(pixels) * 197 * 64
    assert seen[first].low.shape == seen[first].high.shape == (64,)
    assert counted[first].counts[-1] >= 1


def test_a_range_that_is_not_finite_is_refused_by_name(case: Case) -> None:
    data, ops, pixels = case
    model = onnx.load_model_from_string(data)
    tensor = next(t for t in model.graph.initializer if t.name == ops[0].weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32("inf"), tensor.name))
    with pytest.raises(VerdictError, match="is not finite"):
        channel_ranges(model.SerializeToString(), ops, pixels[:1])
    with pytest.raises(VerdictError, match=f"{ops[0].activation} is 0"):
        histograms(data, {ops[0].activation: 0.0}, pixels[:1])


def histogram(values: NDArray[np.float64]) -> Histogram:
    largest = float(np.abs(values).max())
    return Histogram(np.histogram(np.abs(values), BINS, (0, largest))[0].astype(np.int64), largest)


def test_methods_treat_an_outlier_as_they_should() -> None:
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    values[0] = 100.0
    measured = histogram(values)
    assert minmax(measured) == 100
    assert percentile(measured) < 10 < mse(measured) < 60  # one value's clipping weighs as much as everybody's rounding
    assert METHODS["entropy"](measured) < 100


def test_no_method_goes_further_beyond_what_was_seen_than_it_says() -> None:
    measured = histogram(np.random.default_rng(1).uniform(-3, 3, 50_000))
    for method, threshold in METHODS.items():
        most = HEADROOM if method == "wide" else 1
        assert 0 < threshold(measured) <= most * measured.largest + 1e-6, method


def test_mse_is_the_least_error_there_is() -> None:
    values = np.random.default_rng(2).laplace(0, 1, 100_000)
    measured = histogram(values)

    def error(threshold: float) -> float:
        scale = threshold / 127
        return float(((np.clip(np.rint(values / scale), -127, 127) * scale - values) ** 2).mean())

    assert error(mse(measured)) <= min(error(measured.largest), error(percentile(measured))) * 1.01


@pytest.mark.parametrize(("low", "high"), [(-0.17, 9.3), (0.0, 0.01), (-7.1, 0.3), (0.0, 6.0)])
def test_a_range_to_one_side_is_shifted_by_whole_steps(low: float, high: float) -> None:
    size, steps = Range(low, high).grid()
    assert steps != 0 and size < 0.6 * Range(low, high).grid(shiftable=False)[0]
    values = np.linspace(low, high, 10_001)
    integers = np.rint((values - steps * float(size)) / size)
    assert integers.min() >= -127 and integers.max() <= 127 and np.ptp(integers) >= 250
    assert np.abs((integers + steps) * size - values).max() <= 0.5001 * size
    assert (np.rint((0 - steps * float(size)) / size) + steps) * size == 0  # zero stays exact


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-3.0, 2.5), (-1e-3, 1.1e-3)])
def test_a_range_around_zero_costs_no_operator(low: float, high: float) -> None:
    size, steps = Range(low, high).grid()
    assert steps == 0 and size == half_above(max(-low, high) / 127)


def test_steps_are_float16_numbers_so_that_both_files_hold_the_same() -> None:
    for value in np.random.default_rng(3).lognormal(0, 3, 300).tolist():
        size = half_above(value)
        assert size >= value and np.float32(np.float16(size)) == size and size < value * 1.002


def test_clipping_leaves_the_nearer_end_alone_and_widening_takes_both() -> None:
    assert Range(-0.17, 9.0).to(4.0) == Range(-0.17, 4.0)
    assert Range(-5.0, 9.0).to(4.0) == Range(-4.0, 4.0)
    assert Range(-2.0, 4.0).to(6.0) == Range(-3.0, 6.0)
    assert Range(-0.17, 9.0).to(9.0) == Range(-0.17, 9.0)


def test_wide_leaves_room_for_what_calibration_did_not_show() -> None:
    measured = histogram(np.random.default_rng(4).uniform(-3, 3, 1000))
    assert METHODS["wide"](measured) == pytest.approx(1.25 * measured.largest)

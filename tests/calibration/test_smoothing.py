from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks.standalone.outlier_smoothing import measure
from calibration.activations import ChannelRange, channel_ranges
from calibration.quantizable import weight_ops
from calibration.smoothing import smooth
from calibration.weight_graph import WeightGraph
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.spec import PreprocessSpec
from export.golden import golden_pixels

Folded = tuple[onnx.ModelProto, dict[str, ChannelRange]]


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return golden_pixels(PreprocessSpec())


@pytest.fixture(scope="module")
def outliers(outlier_graph: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(outlier_graph)


@pytest.fixture(scope="module")
def folded(outliers: onnx.ModelProto, pixels: NDArray[np.uint8]) -> Folded:
    model = onnx.ModelProto()
    model.CopyFrom(outliers)
    ops = weight_ops(outliers)
    return model, smooth(model, ops, channel_ranges(outliers.SerializeToString(), ops, pixels))


def test_folding_changes_fp32_by_rounding_alone(
    outliers: onnx.ModelProto, folded: Folded, pixels: NDArray[np.uint8]
) -> None:
    model, after = folded
    ops = weight_ops(model)
    plain, smoothed = WeightGraph(outliers), WeightGraph(model)
    grown = {op.name: np.abs(smoothed.weight(op.weight)).sum(1) / np.abs(plain.weight(op.weight)).sum(1) for op in ops}
    assert {name for name, rows in grown.items() if np.ptp(rows) > 0.01} == {n for n in grown if not n.endswith("fc2")}
    assert max(rows.max() for rows in grown.values()) > 4
    one, two = (logits_of(m.SerializeToString(), "fp32", pixels, batch=3, threads=1) for m in (outliers, model))
    for name, before in one.items():
        assert np.abs(before - two[name]).max() < 2e-5 * np.abs(before).max()
    again = channel_ranges(model.SerializeToString(), ops, pixels)
    for op in ops:
        for side in ("low", "high"):
            one_side, other = getattr(after[op.activation], side), getattr(again[op.activation], side)
            np.testing.assert_allclose(one_side, other, atol=1e-4 * float(after[op.activation].largest.max()))


def test_what_folds_lies_around_zero_in_every_channel(folded: Folded) -> None:
    model, after = folded
    for op in weight_ops(model):
        seen = after[op.activation]
        if op.name.endswith("fc2"):
            assert -seen.low.min() < 0.5 * seen.high.max()  # GELU's own shape, which nothing can be folded through
        elif not op.name.endswith(".q"):  # the class token alone, of which kv reads more
            assert np.abs(seen.middle).max() < 1e-5 * float(seen.largest.max())


def test_a_shift_waits_for_a_bias_that_takes_it(outliers: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(outliers)
    add = next(n for n in model.graph.node if n.op_type == "Add" and n.name == "node_linear")
    reader = next(n for n in model.graph.node if add.output[0] in n.input)
    product = next(name for name in add.input if name.startswith("val_"))
    reader.input[list(reader.input).index(add.output[0])] = product
    model.graph.node.remove(add)
    data = model.SerializeToString()
    ops = weight_ops(model)
    after = smooth(model, ops, channel_ranges(data, ops, pixels))
    first, middle = ops[0].name, {op.name: np.abs(after[op.activation].middle).max() for op in ops}
    assert first == "blocks.0.qkv" and middle[first] > 1e-3 > middle["blocks.1.qkv"]
    one, two = (logits_of(d, "fp32", pixels, batch=3, threads=1) for d in (data, model.SerializeToString()))
    assert max(np.abs(one[name] - two[name]).max() for name in one) < 1e-4


def test_smoothing_takes_a_tenth_of_the_error_of_plain_min_max(
    outliers: onnx.ModelProto, pixels: NDArray[np.uint8]
) -> None:
    errors = measure(outliers, pixels)
    assert errors.ratio > 10
    assert len(errors.plain) == len(errors.smoothed) == len(pixels)
    assert max(errors.smoothed) < errors.deviation < min(errors.plain)

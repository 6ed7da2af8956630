from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks.standalone.outlier_smoothing import measure
from calibration.activations import channel_maxima
from calibration.quantizable import weight_ops
from calibration.smoothing import smooth
from dtvit_edge.spec import PreprocessSpec
from export.golden import golden_pixels
from export.onnx_graph import open_session
from export.parity import run_batches


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return golden_pixels(PreprocessSpec())


@pytest.fixture(scope="module")
def outliers(outlier_graph: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(outlier_graph)


def test_folding_changes_no_bit_of_the_fp32_graph(outliers: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    ops = weight_ops(outliers)
    model = onnx.ModelProto()
    model.CopyFrom(outliers)
    maxima = channel_maxima(outliers.SerializeToString(), ops, pixels)
    folds, after = smooth(model, ops, maxima)
    folded = {name for fold in folds for name in fold.ops}
    assert folded == {p.name for p in ops if not p.name.endswith("fc2")}
    assert max(fold.largest for fold in folds) > 4
    one, two = (run_batches(open_session(m.SerializeToString(), 1), pixels, 3) for m in (outliers, model))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    again = channel_maxima(model.SerializeToString(), ops, pixels)
    for name in after:
        np.testing.assert_array_equal(after[name], again[name])


def test_smoothing_takes_a_tenth_of_the_error_of_plain_min_max(
    outliers: onnx.ModelProto, pixels: NDArray[np.uint8]
) -> None:
    errors = measure(outliers, pixels)
    assert errors.ratio > 10
    assert len(errors.plain) == len(errors.smoothed) == len(pixels)
    assert max(errors.smoothed) < errors.deviation < min(errors.plain)

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from calibration.activations import channel_maxima
from calibration.products import weight_products
from calibration.quantise import quantise
from calibration.sensitivity import logit_error
from calibration.smoothing import smooth
from dtvit_edge.spec import PreprocessSpec
from export.golden import golden_pixels
from export.onnx_graph import export_fp32, open_session
from export.parity import run_batches
from export.rewrites import rewrite
from export.untrained import untrained_model

PIXELS = golden_pixels(PreprocessSpec())


@pytest.fixture(scope="module")
def stressed() -> onnx.ModelProto:
    """LayerNorms with a few channels a hundred times as large, and weights behind them as much smaller."""
    model = untrained_model("test_vit")
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for block in model.encoder.blocks:  # type: ignore[union-attr]
            for norm, layer in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
                channels = torch.from_numpy(rng.choice(64, 4, replace=False))
                norm.weight[channels] *= 100
                layer.weight[:, channels] /= 100
    return onnx.load_model_from_string(export_fp32(rewrite(model, PreprocessSpec()).module, 1))


def test_folding_changes_no_bit_of_the_fp32_graph(stressed: onnx.ModelProto) -> None:
    products = weight_products(stressed)
    model = onnx.ModelProto()
    model.CopyFrom(stressed)
    maxima = channel_maxima(stressed.SerializeToString(), products, PIXELS)
    folds, after = smooth(model, products, maxima)
    folded = {name for fold in folds for name in fold.products}
    assert folded == {p.name for p in products if not p.name.endswith("fc2")}
    assert max(fold.largest for fold in folds) > 4
    one, two = (run_batches(open_session(m.SerializeToString(), 1), PIXELS, 3) for m in (stressed, model))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    again = channel_maxima(model.SerializeToString(), products, PIXELS)
    for name in after:
        np.testing.assert_array_equal(after[name], again[name])


def test_smoothing_takes_a_tenth_of_the_error_of_plain_min_max(stressed: onnx.ModelProto) -> None:
    products = weight_products(stressed)
    reference = run_batches(open_session(stressed.SerializeToString(), 1), PIXELS, 3)
    maxima = channel_maxima(stressed.SerializeToString(), products, PIXELS)

    def error(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> float:
        data = quantise(model, products, {name: float(v.max()) for name, v in values.items()})
        return logit_error(reference, run_batches(open_session(data, 1), PIXELS, 3))

    plain = error(stressed, maxima)
    model = onnx.ModelProto()
    model.CopyFrom(stressed)
    _, after = smooth(model, products, maxima)
    assert plain > 10 * error(model, after)

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.activations import channel_maxima
from calibration.quantise import checked, placement, quantise, typed
from calibration.quantizable import weight_ops
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from export.golden import golden_pixels
from export.onnx_graph import open_session
from export.parity import run_batches


@pytest.fixture(scope="module")
def int8(small_bundle: Bundle) -> bytes:
    data = small_bundle.model_bytes("fp32")
    model = onnx.load_model_from_string(data)
    ops = weight_ops(model)
    maxima = channel_maxima(data, ops, golden_pixels(small_bundle.manifest.spec))
    return checked(quantise(model, ops, {k: float(v.max()) for k, v in maxima.items()}), 1)


def test_every_blocks_ops_read_integers_and_nothing_else_does(int8: bytes) -> None:
    model = onnx.load_model_from_string(int8)
    dequantised = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    readers = [n for n in model.graph.node if dequantised & set(n.input)]
    assert len(readers) == 25
    assert {n.op_type for n in readers} == {"MatMul"}
    assert all(set(n.input) <= dequantised for n in readers)
    made = {name for n in readers for name in n.output}
    assert not [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in made]
    assert placement(int8) == {"ops": 25 + 1 + 4, "quantised": 25}  # patch embedding, four layers of heads


def test_integers_are_symmetric_and_weights_by_output_channel(int8: bytes) -> None:
    model = onnx.load_model_from_string(int8)
    weights = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = numpy_helper.to_array(weights[node.input[2]])
            assert zero.dtype == np.int8 and not zero.any()
            if node.input[0] in weights:
                assert len(numpy_helper.to_array(weights[node.input[1]])) == weights[node.input[0]].dims[1]


def test_both_files_hold_the_same_integers_and_ranges(int8: bytes) -> None:
    half = typed(int8, 1)

    def contents(data: bytes) -> tuple[dict[str, bytes], list[float]]:
        model = onnx.load_model_from_string(data)
        integers = {t.name: t.raw_data for t in model.graph.initializer if t.data_type == TensorProto.INT8 and t.dims}
        by_name = {t.name: t for t in model.graph.initializer}
        scales = [
            float(numpy_helper.to_array(by_name[n.input[1]])) for n in model.graph.node if n.op_type == "QuantizeLinear"
        ]
        return integers, scales

    (one, scales), (two, halves) = contents(int8), contents(half)
    assert one == two
    np.testing.assert_allclose(halves, scales, rtol=1e-3)
    model = onnx.load_model_from_string(half)
    assert model.opset_import[0].version == 19
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert {types[n.input[1]] for n in model.graph.node if n.op_type == "QuantizeLinear"} == {TensorProto.FLOAT16}


def test_both_compute_nearly_the_same_as_fp32(small_bundle: Bundle, int8: bytes) -> None:
    golden = small_bundle.golden()
    for data in (int8, typed(int8, 1)):
        logits = run_batches(open_session(data, 1), golden.pixels, 4)
        for name, expected in golden.logits.items():
            assert 0 < np.abs(logits[name] - expected).max() < expected.std(axis=0).max()


@pytest.mark.parametrize("value", [None, 0.0, float("inf"), float("nan")])
def test_a_range_that_is_none_is_refused_by_name(small_bundle: Bundle, value: float | None) -> None:
    model = onnx.load_model_from_string(small_bundle.model_bytes("fp32"))
    ops = weight_ops(model)
    ranges = {p.activation: 1.0 for p in ops}
    if value is None:
        del ranges[ops[3].activation]
    else:
        ranges[ops[3].activation] = value
    with pytest.raises(VerdictError, match=r"blocks\.0\.fc2: the range of its input is"):
        quantise(model, ops, ranges)

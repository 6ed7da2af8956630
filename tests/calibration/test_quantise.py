from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.activations import channel_ranges
from calibration.quantise import placement, quantise, typed
from calibration.quantizable import weight_ops
from calibration.ranges import Range
from calibration.smoothing import smooth
from calibration.weight_graph import WeightGraph
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from export.golden import golden_pixels
from export.onnx_graph import OPSET, check_graph


@pytest.fixture(scope="module")
def int8(small_bundle: Bundle) -> bytes:
    """Folded, with ranges by min-max: the inputs of fc2 are shifted."""
    data = small_bundle.model_bytes("fp32")
    model = onnx.load_model_from_string(data)
    ops = weight_ops(model)
    seen = channel_ranges(data, ops, golden_pixels(small_bundle.manifest.spec))
    seen = smooth(model, ops, seen)
    spans = {op.activation: seen[op.activation] for op in ops}
    data = quantise(model, ops, {k: Range(float(v.low.min()), float(v.high.max())) for k, v in spans.items()})
    check_graph(data, OPSET, 1)
    return data


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
    for precision, data in (("int8", int8), ("int8-fp16", typed(int8, 1))):
        logits = logits_of(data, precision, golden.pixels, batch=4, threads=1)
        for name, expected in golden.logits.items():
            assert 0 < np.abs(logits[name] - expected).max() < expected.std(axis=0).max()


def test_the_inputs_behind_gelu_alone_are_shifted_by_whole_steps(int8: bytes) -> None:
    model = onnx.load_model_from_string(int8)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    quantised = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    shifted = [n for n in quantised if made[n.input[0]].op_type == "Sub"]
    assert (len(quantised), len(shifted)) == (25, 6)
    for node in shifted:
        sub = made[node.input[0]]
        steps = weights[sub.input[1]] / weights[node.input[1]]
        assert abs(steps - round(float(steps))) < 1e-4 and 30 < abs(steps) <= 127
        assert sub.input[0].startswith("gelu")


def test_a_shift_is_given_back_by_the_weights_as_they_are_rounded(small_bundle: Bundle) -> None:
    model = onnx.load_model_from_string(small_bundle.model_bytes("fp32"))
    op = next(p for p in weight_ops(model) if p.name == "blocks.0.fc2")
    span = Range(-0.17, 4.0)
    graph = WeightGraph(onnx.load_model_from_string(quantise(model, [op], {op.activation: span})))
    size, steps = span.grid()
    rounded = graph.weight(f"{op.weight}_quantized") * graph.weight(f"{op.weight}_scale").astype(np.float64)
    before, bias = WeightGraph(model), WeightGraph(model).bias(op)
    assert bias is not None and steps > 100
    given = graph.weight(bias) - before.weight(bias).astype(np.float64)
    np.testing.assert_allclose(given, steps * float(size) * rounded.sum(axis=0), atol=1e-6)
    # An input of zeros so gives what the bias gives, though the integers are -steps in every channel.
    zeros = -steps * float(size) * rounded.sum(axis=0) + graph.weight(bias)
    np.testing.assert_allclose(zeros, before.weight(bias), atol=1e-6)


def test_an_op_that_keeps_higher_precision_reads_what_it_read(small_bundle: Bundle, int8: bytes) -> None:
    model = onnx.load_model_from_string(small_bundle.model_bytes("fp32"))
    ops = weight_ops(model)
    spans = {p.activation: Range(-0.2, 5.0) for p in ops}
    fewer = onnx.load_model_from_string(quantise(model, [p for p in ops if p.name != "blocks.5.kv"], spans))
    before, after = ({n.name: n for n in m.graph.node} for m in (model, fewer))
    kept = next(p for p in ops if p.name == "blocks.5.kv")
    assert list(after[kept.node].input) == list(before[kept.node].input)
    assert placement(fewer.SerializeToString())["quantised"] == 24


@pytest.mark.parametrize("value", [None, 0.0, float("inf"), float("nan")])
def test_a_range_that_is_none_is_refused_by_name(small_bundle: Bundle, value: float | None) -> None:
    model = onnx.load_model_from_string(small_bundle.model_bytes("fp32"))
    ops = weight_ops(model)
    ranges = {p.activation: Range(-1.0, 1.0) for p in ops}
    if value is None:
        del ranges[ops[3].activation]
    else:
        ranges[ops[3].activation] = Range(-value, value)
    with pytest.raises(VerdictError, match=r"blocks\.0\.fc2: the range of its input is"):
        quantise(model, ops, ranges)

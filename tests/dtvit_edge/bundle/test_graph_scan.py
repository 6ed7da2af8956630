"""What an ONNX file may hold."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.graph_scan import check_graph
from dtvit_edge.bundle.operators import DOMAINS, OPERATORS
from dtvit_edge.errors import BundleError
from tests.support.tiny_bundle import tiny_model
from tests.support.typed_graphs import OPSETS


@pytest.mark.parametrize("precision", OPSETS)
def test_every_graph_of_a_bundle_passes(typed_bundle: Bundle, precision: str) -> None:
    check_graph(typed_bundle.model_path(precision).read_bytes(), precision)


def test_what_export_writes_passes(small_bundle: Bundle, trimmed_bundle: Bundle) -> None:
    for bundle in (small_bundle, trimmed_bundle):
        for precision in bundle.present:
            check_graph(bundle.model_path(precision).read_bytes(), precision)


def test_operators_are_of_the_standard_and_none_computes_by_a_graph_of_its_own() -> None:
    standard = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain in DOMAINS}
    later = {"RMSNormalization", "RotaryEmbedding", "Attention", "Swish"}  # of opset 23 and 24
    assert OPERATORS - later <= set(standard)
    for name in OPERATORS & set(standard):
        kinds = {attribute.type for attribute in standard[name].attributes.values()}
        assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}, name
    assert not OPERATORS & {"If", "Loop", "Scan", "SequenceMap", "LSTM", "RandomNormal", "ImageDecoder", "StringSplit"}


@pytest.mark.parametrize("size", range(0, 474, 37))
def test_a_graph_that_was_cut_short_is_refused(size: int) -> None:
    with pytest.raises(BundleError):
        check_graph(tiny_model()[:size], "m")


def test_a_second_graph_which_protobuf_would_merge_is_refused() -> None:
    more = onnx.ModelProto()
    more.graph.node.append(helper.make_node("Identity", ["a"], ["b"]))
    with pytest.raises(BundleError, match="it holds 2 graphs"):
        check_graph(tiny_model() + more.SerializeToString(), "m")


def test_a_second_name_of_an_operator_does_not_hide_the_first() -> None:
    model = onnx.load_from_string(tiny_model())
    node = model.graph.node[0].SerializeToString()
    for hidden in (b'"\x04Loop' + node, node + b'"\x04Loop'):
        graph = b"\n" + bytes([len(hidden)]) + hidden
        with pytest.raises(BundleError, match="'Loop'"):
            check_graph(b":" + bytes([len(graph)]) + graph, "m")


def test_weights_in_the_typed_fields_and_of_every_allowed_type_pass() -> None:
    model = onnx.load_from_string(tiny_model())
    for kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64, TensorProto.BOOL):
        for raw in (False, True):
            size = helper.tensor_dtype_to_np_dtype(kind).itemsize
            values = bytes(3 * size) if raw else [0, 1, 0]
            model.graph.initializer.append(helper.make_tensor(f"w{kind}{raw}", kind, [3], values, raw=raw))
    model.graph.initializer.append(helper.make_tensor("empty", TensorProto.FLOAT, [0], b"", raw=True))
    check_graph(model.SerializeToString(), "m")

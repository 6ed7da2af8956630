"""The typed float16 graph: what stays float32, and that it computes the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, shape_inference

from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec
from export.golden import golden_slices
from export.half import FLOAT32_OPERATORS, export_fp16
from export.onnx_graph import export_fp32
from export.rewrites import rewrite
from export.untrained import untrained_model


@pytest.fixture(scope="module", params=["test_vit", "test_resnet"])
def graphs(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    model = untrained_model(request.param)
    fp32 = export_fp32(rewrite(model, PreprocessSpec()).module, 1)
    return fp32, export_fp16(fp32, 1)


def types(data: bytes) -> tuple[onnx.ModelProto, dict[str, int]]:
    """Element type of every tensor, by ONNX's own inference."""
    model = shape_inference.infer_shapes(onnx.load_model_from_string(data), strict_mode=True)
    graph = model.graph
    element_types = {t.name: t.data_type for t in graph.initializer}
    element_types |= {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return model, element_types


def test_only_norms_softmax_and_last_layers_stay_float32(graphs: tuple[bytes, bytes]) -> None:
    model, element_types = types(graphs[1])
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    last = 0
    for node in model.graph.node:
        node_types = {element_types[name] for name in (*node.input, *node.output) if element_types.get(name) in floats}
        if node.op_type == "Cast" or not node_types:
            continue
        wide = node.op_type in FLOAT32_OPERATORS or set(node.output) & set(OUTPUT_NAMES)
        last += bool(set(node.output) & set(OUTPUT_NAMES))
        assert node_types == {TensorProto.FLOAT if wide else TensorProto.FLOAT16}, node.name
    assert last == 2


def test_no_cast_is_made_twice_and_none_undoes_another(graphs: tuple[bytes, bytes]) -> None:
    model = onnx.load_model_from_string(graphs[1])
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert max(Counter((n.input[0], n.attribute[0].i) for n in casts).values()) == 1
    made = {n.output[0] for n in casts}
    assert not [n.name for n in casts if n.input[0] in made]


def test_it_computes_the_same_at_half_the_size(graphs: tuple[bytes, bytes]) -> None:
    fp32, fp16 = graphs
    pixels = golden_slices(PreprocessSpec())[2]
    one, two = (logits_of(data, "fp16", pixels, batch=3, threads=1) for data in graphs)
    for name in OUTPUT_NAMES:
        assert two[name].dtype == np.float32
        difference = np.abs(one[name] - two[name]).max()
        assert 0 < difference < 0.05 * one[name].std(axis=0).max()
    weights = [sum(t.ByteSize() for t in onnx.load_model_from_string(d).graph.initializer) for d in (fp32, fp16)]
    assert weights[1] < 0.56 * weights[0]


def test_the_same_graph_gives_the_same_bytes(graphs: tuple[bytes, bytes]) -> None:
    assert export_fp16(graphs[0], 1) == graphs[1]


def test_a_weight_that_float16_cannot_hold_is_refused(graphs: tuple[bytes, bytes]) -> None:
    model = onnx.load_model_from_string(graphs[0])
    tensor = next(t for t in model.graph.initializer if t.name.endswith("ich_head.0.weight"))
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = 1e5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(VerdictError, match=r"ich_head\.0\.weight has values up to 100000; float16 ends at 65504"):
        export_fp16(model.SerializeToString(), 1)

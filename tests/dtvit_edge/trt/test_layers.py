from __future__ import annotations

import json

import pytest

from dtvit_edge.errors import VerdictError
from dtvit_edge.trt import layers
from dtvit_edge.trt.layers import Layer

# As TensorRT for RTX 1.7 writes them: an int8 product, one that turns int8 into floats first, a kernel, a shape.
LOG = """Layers:
Name: __mye1436_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata:
Name: node_out_myl0_10, LayerType: gemm, Inputs: [ { Name: a, Dimensions: [-1,32], Strides: [32,1], Datatype: Int8, Format: (Linear) Row major linear format }], Constants: [ { Name: w, Dimensions: [32,32], Datatype: Int8, Format: (Linear) }, { Name: s, Datatype: Float, Format: (Linear) }], Outputs: [ { Name: o, Dimensions: [-1,32], Datatype: Half, Format: (Linear) Row major linear format }], TacticName: i8816, StreamId: 0, Metadata: [ONNX Layer: node_out]
Name: __myl_CastMulFc_myl0_5, LayerType: runtime_fusion, Inputs: [ { Name: b, Datatype: Int8, Format: (Linear) }, { Name: c, Datatype: Float, Format: (Linear) }], Constants: [], Outputs: [ { Name: d, Datatype: Float, Format: (Linear) }], TacticName: , StreamId: 0, Metadata: [ONNX Layer: node_q]
Name: __myl_Cast_myl0_1, LayerType: kgen, Inputs: [ { Name: pixels, Datatype: UInt8, Format: (Linear) }], Constants: [], Outputs: [ { Name: e, Datatype: Half, Format: (NHWC) Channel major format }], TacticName: x, StreamId: 0, Metadata: [ONNX Layer: node_floats]
"""  # noqa: E501


def layer(precision: str, *types: str, opaque: bool = False) -> Layer:
    return Layer("node", "gemm", types or (precision,), (precision,), precision, opaque)


def test_the_builders_log_gives_types_and_what_is_computed_in() -> None:
    read_back = layers.from_log(LOG)
    assert [(f.kind, f.inputs, f.outputs, f.precision) for f in read_back] == [
        ("shape_call", (), (), ""),
        ("gemm", ("int8",), ("fp16",), "int8"),
        ("runtime_fusion", ("int8", "fp32"), ("fp32",), "fp32"),
        ("kgen", ("uint8",), ("fp16",), "fp16"),
    ]
    assert layers.count(read_back) == {"int8": 1, "fp32": 1, "fp16": 1}
    assert read_back[1].tactic == "i8816"


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ({"Format/Datatype": "Row major linear FP16 format"}, "fp16"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Datatype": "BFloat16", "Format": "Row major linear format"}, "bf16"),
        ({"Datatype": "Float", "Format": "Row major linear format"}, "fp32"),
        ({"Format/Datatype": "N/A due to dynamic shapes"}, ""),
        ({"Format/Datatype": "Row major linear Int64 format"}, ""),
    ],
)
def test_the_inspectors_descriptions_of_each_release_are_read(tensor: dict[str, str], kind: str) -> None:
    text = json.dumps({"Layers": [{"Name": "n", "LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor]}]})
    (read_back,) = layers.from_inspector(text)
    assert read_back.precision == kind


def test_an_int8_product_with_a_residual_in_half_is_an_int8_product() -> None:
    tensors = [{"Format/Datatype": "Int8"}, {"Format/Datatype": "Row major linear FP16 format"}]
    for more, precision in (
        ({"Weights": {"Type": "Int8", "Count": 9}}, "int8"),
        ({"Weights": {"Type": "Half"}}, "fp16"),
    ):
        entry = {"Name": "n", "LayerType": "CaskConvolution", "Inputs": tensors, "Outputs": tensors[1:], **more}
        (read_back,) = layers.from_inspector(json.dumps({"Layers": [entry]}))
        assert read_back.precision == precision


@pytest.mark.parametrize("text", ["", '{"Layers": [{Name": 1}]}', "[]", '{"Layers": 3}', '{"Layers": [3]}'])
def test_what_is_no_list_of_layers_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError):
        layers.from_inspector(text)


def test_an_engine_of_names_alone_is_opaque() -> None:
    assert layers.from_inspector('{"Layers": ["a", "b"], "Bindings": ["pixels"]}')[0].opaque


@pytest.mark.parametrize(
    ("asked", "built", "warning"),
    [
        ("fp32", [layer("fp32")], None),
        ("fp32", [layer("fp32"), layer("fp16")], "layers compute in fp16"),
        ("fp16", [layer("fp32"), layer("fp16")], None),
        ("int8", [layer("int8"), layer("fp16")], None),
        ("int8", [layer("int8"), layer("fp16", "int8", "fp16")], "1 layers are given int8 and compute in fp16"),
        ("int8", [layer("fp32", "int8", "fp32")], "int8 is stored, but no layer computes in it"),
        ("fp16", [layer("fp32", opaque=True)], "1 fused regions do not show"),
        ("fp16", [], "could not be read back"),
    ],
)
def test_doubts_are_warnings(asked: str, built: list[Layer], warning: str | None) -> None:
    warnings = layers.check_precision(asked, built)
    assert len(warnings) == (warning is not None)
    assert warning is None or warning in warnings[0]


def test_fp8_is_told_from_products_that_turn_it_into_floats() -> None:
    lines = layers.from_inspector(json.dumps({"Layers": [
        {"Name": "a", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "FP8"}], "Constants": [
            {"Format/Datatype": "FP8"}, {"Format/Datatype": "Half"}], "Outputs": [{"Format/Datatype": "Half"}]},
        {"Name": "b", "LayerType": "fusion", "Inputs": [{"Format/Datatype": "FP8"}, {"Format/Datatype": "Half"}],
         "Outputs": [{"Format/Datatype": "Half"}]},
    ]}))  # fmt: skip
    assert layers.count(lines) == {"fp8": 1, "fp16": 1}
    assert layers.check_precision("fp8", lines) == [
        "1 layers are given fp8 and compute in fp16: those products gain no speed from fp8"
    ]


@pytest.mark.parametrize("asked", ["fp16", "int8", "fp8"])
def test_an_engine_that_silently_stayed_fp32_is_refused(asked: str) -> None:
    with pytest.raises(VerdictError, match=f"{asked} was asked for, but the engine's layers are 2 fp32"):
        layers.check_precision(asked, [layer("fp32"), layer("fp32")])

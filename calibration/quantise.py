"""The two int8 files: Q/DQ on the input and the weight of each quantizable op, nothing on any output.

onnxruntime.quantization writes Q/DQ well when it is told which nodes and which ranges; what it would choose by itself
(products of two activations, outputs, its own calibrators' ranges, which depend on the order of slices) ruins a ViT or
runs slower. `quantizable` says which ops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, version_converter
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from calibration.quantizable import OUTPUT_AXIS, QuantizableOp
from dtvit_edge.errors import VerdictError
from export.half import convert
from export.onnx_graph import OPSET, check_graph, serialise

TYPED_OPSET = 19  # the first with float16 scales


def quantise(model: ModelProto, ops: Sequence[QuantizableOp], ranges: Mapping[str, float]) -> bytes:
    """`model.int8.onnx`: symmetric int8, weights by output channel, float32 scales, everything else as it was.

    Args:
        model: the fp32 graph, smoothed or not; it is left as it is.
        ops: the ones to quantise.
        ranges: largest magnitude by activation; those of other tensors are ignored.

    Raises:
        VerdictError: a range that is missing, zero or not finite.
    """
    for op in ops:
        for name in op.activations:
            value = ranges.get(name)
            if value is None or not 0 < value < np.inf:
                raise VerdictError(f"{op.name}: the range of its input is {value}; expected a positive number")
    copy = ModelProto()
    copy.CopyFrom(model)
    limits = {
        name: TensorData(lowest=np.float32(-ranges[name]), highest=np.float32(ranges[name]))
        for p in ops
        for name in p.activations
    }
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[p.node for p in ops],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(OUTPUT_AXIS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": sorted(OUTPUT_AXIS),
        },
    )
    quantizer.quantize_model()
    _keep_floats_elsewhere(quantizer.model.model, {p.node for p in ops})
    quantizer.model.topological_sort()
    return serialise(quantizer.model.model)


def _keep_floats_elsewhere(model: ModelProto, quantised_nodes: set[str]) -> None:
    """Let every other node read the float tensor whose rounded copy feeds a quantised op.

    The Slice that takes the class token out of the last block's norm would else hand on rounded values, to be rounded
    again with another scale.
    """
    producer = {n.output[0]: n for n in model.graph.node}
    for node in model.graph.node:
        if node.name in quantised_nodes:
            continue
        for place, name in enumerate(node.input):
            dequantise = producer.get(name)
            if dequantise is not None and dequantise.op_type == "DequantizeLinear":
                quantised = producer.get(dequantise.input[0])
                if quantised is not None and quantised.op_type == "QuantizeLinear":
                    node.input[place] = quantised.input[0]


def typed(int8: bytes, channels: int) -> bytes:
    """`model.int8-fp16.onnx`: the same integers and ranges with float16 scales, the rest as in `model.fp16.onnx`.

    Raises:
        VerdictError: a scale or weight that float16 cannot hold, or a graph that does not check.
    """
    model = version_converter.convert_version(onnx.load_model_from_string(int8), TYPED_OPSET)
    convert(model)
    data = serialise(model)
    check_graph(data, TYPED_OPSET, channels)
    return data


def checked(int8: bytes, channels: int) -> bytes:
    """The int8 file's bytes, after the checks that every file of a bundle passes."""
    check_graph(int8, OPSET, channels)
    return int8


def placement(data: bytes) -> dict[str, int]:
    """How many ops have a weight or quantised activations, and how many of them are quantised."""
    model = onnx.load_model_from_string(data)
    dequantised = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    constants = {t.name for t in model.graph.initializer}
    ops = [n for n in model.graph.node if n.op_type in OUTPUT_AXIS and n.input[1] in constants | dequantised]
    quantised = [n for n in ops if set(n.input[:2]) <= dequantised]
    return {"ops": len(ops), "quantised": len(quantised)}

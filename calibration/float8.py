"""The FP8 file: E4M3 Q/DQ on the input and the weight of each quantizable op, the rest as in `model.fp16.onnx`.

E4M3 keeps three bits behind the leading one at any size from 2^-6 to 448, so that no input is shifted (most of what
GELU gives lies near zero, where FP8 is finest) and one scale serves a whole weight: with one an output channel
TensorRT for RTX 1.7 turned 12 of 49 products (q, k and v) back into FP16, with one a weight it kept all 49 in FP8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper, version_converter

from calibration.quantise import TYPED_OPSET, Grid, QdqWriter
from calibration.quantizable import QuantizableOp
from calibration.ranges import Range, half_above
from export.half import convert
from export.onnx_graph import check_graph, serialise

LARGEST = 448  # of E4M3
_E4M3 = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)


def quantise_fp8(model: ModelProto, ops: Sequence[QuantizableOp], ranges: Mapping[str, Range], channels: int) -> bytes:
    """`model.fp8.onnx`: opset 19, typed, float16 scales.

    Args:
        model: the fp32 graph, smoothed or not; it is left as it is.
        ops: those with a weight, to be quantised.
        ranges: of what each of them reads, finite; nothing of them is clipped.

    Raises:
        VerdictError: a scale or weight that float16 cannot hold, or a graph that does not check.
    """
    writer = QdqWriter(version_converter.convert_version(model, TYPED_OPSET))
    for op in ops:
        size = half_above(ranges[op.activation].largest / LARGEST)
        writer.quantise_input(op, 0, Grid(size, np.zeros((), _E4M3)))
        weight = writer.graph.weight(op.weight)
        weight_size = half_above(max(float(np.abs(weight).max()), LARGEST * _SMALLEST_HALF) / LARGEST)
        writer.quantise_weight(op, (weight / weight_size).astype(_E4M3), np.asarray(weight_size), 0)
    quantised = writer.finished()
    convert(quantised)
    data = serialise(quantised)
    check_graph(data, TYPED_OPSET, channels)
    return data


_SMALLEST_HALF = float(np.finfo(np.float16).tiny)

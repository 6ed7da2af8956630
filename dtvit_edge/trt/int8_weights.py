"""Int8 weights as releases of TensorRT below 10 read them: floats behind a QuantizeLinear.

The bundle's graphs hold int8 constants, each with a DequantizeLinear behind it. TensorRT 10 and newer and TensorRT for
RTX read them so. 8.6 parses them too, and then builds nothing: a fused region turns constants into floats, and int8
ones fail an assertion (`convertMyelinWeightsToFp32`, seen on an H200). NVIDIA's guide for 8.x asks for FP32 weights
followed by a pair of QuantizeLinear and DequantizeLinear, which it folds into the very same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantise_float_weights(trt: Any, network: Any) -> list[NDArray[np.float32]]:
    """Put float weights and a QuantizeLinear in the place of every int8 constant that a DequantizeLinear reads.

    Of a weight q and its scale s, q * s in float32 divided by s rounds to q again: no integer changes.

    Returns:
        The new weights. The network has their addresses alone: keep them until the engine is built.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    maker = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    kept = []
    for layer in layers:
        if layer.type != trt.LayerType.DEQUANTIZE:
            continue
        weights, scale = (maker.get(layer.get_input(index).name) for index in (0, 1))
        if weights is None or weights.type != trt.LayerType.CONSTANT:
            continue  # an activation
        if scale is None or scale.type != trt.LayerType.CONSTANT:
            continue
        # A network gives its layers as their base class, which knows nothing of a constant or an axis.
        layer.__class__ = trt.IDequantizeLayer
        weights.__class__ = scale.__class__ = trt.IConstantLayer
        shape: tuple[int, ...] = tuple(weights.shape)
        scales: NDArray[np.float32] = np.asarray(scale.weights, np.float32).reshape(-1)
        if scales.size > 1:
            scales = scales.reshape([-1 if axis == layer.axis else 1 for axis in range(len(shape))])
        floats = np.ascontiguousarray(np.asarray(weights.weights).reshape(shape).astype(np.float32) * scales)
        kept.append(floats)
        quantised = network.add_quantize(network.add_constant(shape, floats).get_output(0), layer.get_input(1))
        quantised.axis = layer.axis
        layer.set_input(0, quantised.get_output(0))
    return kept

"""Which layers stay FP32 where precision comes from builder flags and LayerNorm from its parts (TensorRT 8.5).

LayerNorm, softmax and the heads' last layer. A decomposed LayerNorm squares its input and overflows in FP16, which
brought ViT-B from 85 to 19 % on ImageNet; OBEY_PRECISION_CONSTRAINTS makes TensorRT keep what is set here. From 8.6 on
LayerNormalization is a layer that computes in FP32 by itself, and a single layer held in FP32 turns the whole fused
region around it into FP32: 8.6.0 made a ViT-B/16 of fp32's time, at batch 1 of fp32's answers, and no int8 (H200).
"""

from __future__ import annotations

from typing import Any

# The parts that export gives a decomposed LayerNormalization are `NODE_mean`, `NODE_variance` and so on.
_MEAN, _VARIANCE = "_mean", "_variance"


def hold_in_fp32(trt: Any, network: Any) -> list[str]:
    """Set precision and output types of the layers that must not be reduced.

    Returns:
        Names of those layers, in the network's order.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    parts = tuple(f"{name}_" for name in _decomposed(trt, layers))
    chosen = {layer.name for layer in layers if layer.type == trt.LayerType.SOFTMAX or layer.name.startswith(parts)}
    chosen |= {layer.name for layer in _last_layers(trt, network, layers)}
    fp32_layers = [layer for layer in layers if layer.name in chosen and _is_float(trt, layer)]
    for layer in fp32_layers:
        layer.precision = trt.DataType.FLOAT
        for index in range(layer.num_outputs):
            layer.set_output_type(index, trt.DataType.FLOAT)
    return [layer.name for layer in fp32_layers]


def _decomposed(trt: Any, layers: list[Any]) -> list[str]:
    """Names of nodes that have both a mean and a variance among the reductions: decomposed LayerNormalizations."""
    reductions = {layer.name for layer in layers if layer.type == trt.LayerType.REDUCE}
    nodes = [name.removesuffix(_MEAN) for name in reductions if name.endswith(_MEAN)]
    return [node for node in nodes if node + _VARIANCE in reductions]


def _last_layers(trt: Any, network: Any, layers: list[Any]) -> list[Any]:
    """From each output back to the product that makes it, that included: a Gemm is a product and a sum here."""
    products = (trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.CONVOLUTION)
    maker = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}

    def back(layer: Any) -> list[Any]:
        if layer.type in products:
            return [layer]
        for index in range(layer.num_inputs):
            tensor = layer.get_input(index)
            source = maker.get(tensor.name) if tensor is not None else None
            path = back(source) if source is not None else []
            if path:
                return [layer, *path]
        return []

    return [layer for i in range(network.num_outputs) for layer in back(maker[network.get_output(i).name])]


def _is_float(trt: Any, layer: Any) -> bool:
    kinds = (trt.DataType.FLOAT, trt.DataType.HALF)
    return all(layer.get_output(index).dtype in kinds for index in range(layer.num_outputs))

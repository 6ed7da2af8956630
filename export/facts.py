"""What a graph consists of, for the manifest: `compat` reads it on machines that have no onnx."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import onnx
from onnx import TensorProto, helper
from torch import nn

from export._torchvision import timm

# Products with a weight, and the place of the weight among their inputs.
_WEIGHT_PRODUCTS = {"MatMul": 1, "Gemm": 1, "Conv": 1}


def graph_facts(data: bytes, encoder: nn.Module, rewrites: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Facts of one ONNX file, as plain JSON types.

    Args:
        data: the file's bytes.
        encoder: of the model that it was exported from, for what a graph does not say by itself.
        rewrites: `export.rewrites.Rewritten.report`.

    Returns:
        opset, ir_version, operators (count by name), quantize_linear, dequantize_linear, inputs and outputs
        ({name: {dtype, shape}}), weight_products (count by operator), initializer_bytes, parameters,
        attention (heads, head_size, tokens, blocks; None where it is no ViT) and rewrites.
    """
    return _facts(data) | {"attention": attention_facts(encoder), "rewrites": rewrites}


def _facts(data: bytes) -> dict[str, Any]:
    model = onnx.load_model_from_string(data)
    graph = model.graph
    operators = Counter(node.op_type for node in graph.node)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = Counter(
        node.op_type
        for node in graph.node
        if node.op_type in _WEIGHT_PRODUCTS and node.input[_WEIGHT_PRODUCTS[node.op_type]] in weights
    )
    return {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}["ai.onnx"],
        "ir_version": model.ir_version,
        "operators": dict(sorted(operators.items())),
        "quantize_linear": operators["QuantizeLinear"],
        "dequantize_linear": operators["DequantizeLinear"],
        "inputs": {value.name: _tensor(value) for value in graph.input},
        "outputs": {value.name: _tensor(value) for value in graph.output},
        "weight_products": dict(sorted(products.items())),
        "initializer_bytes": sum(_bytes(tensor) for tensor in weights.values()),
        "parameters": sum(math.prod(t.dims) for t in weights.values() if t.data_type == TensorProto.FLOAT),
    }


def quantised_facts(data: bytes, of_fp32: dict[str, Any]) -> dict[str, Any]:
    """Facts of a file that was made from the fp32 graph; what no graph says by itself is taken over from there."""
    return _facts(data) | {name: of_fp32[name] for name in ("attention", "rewrites")}


def attention_facts(encoder: nn.Module) -> dict[str, int] | None:
    """Heads, head size, tokens and blocks of a timm ViT; None for any other encoder."""
    if not isinstance(encoder, timm.models.vision_transformer.VisionTransformer):
        return None
    attention: Any = encoder.blocks[0].attn
    tokens = encoder.patch_embed.num_patches + encoder.num_prefix_tokens
    return {
        "heads": int(attention.num_heads),
        "head_size": int(attention.head_dim),
        "tokens": int(tokens),
        "blocks": len(encoder.blocks),
    }


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return {"dtype": dtype, "shape": [d.dim_param or d.dim_value for d in tensor.shape.dim]}


def _bytes(tensor: TensorProto) -> int:
    return math.prod(tensor.dims) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)

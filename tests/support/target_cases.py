"""Graph facts made by hand, in the form that `export.facts.graph_facts` gives them."""

from __future__ import annotations

from typing import Any

from dtvit_edge.targets.facts import GraphFacts
from dtvit_edge.targets.table import TARGETS, Stack

BLOCKS = 12
NORMS = 2 * BLOCKS + 1
PRODUCTS = {"Conv": 1, "Gemm": 4, "MatMul": 4 * BLOCKS + 1}  # the last block's q apart from its k and v


def vit(**changes: Any) -> dict[str, Any]:
    """A 12-block ViT's fp32 file; `changes` replace facts, and None takes one away."""
    facts = {
        "opset": 17,
        "operators": {
            "Add": 88,
            "Cast": 1,
            "Conv": 1,
            "Erf": 14,
            "Gemm": 4,
            "LayerNormalization": NORMS,
            "MatMul": PRODUCTS["MatMul"] + 2 * BLOCKS,
            "Reshape": 26,
            "Shape": 1,
            "Softmax": BLOCKS,
        },
        "quantize_linear": 0,
        "dequantize_linear": 0,
        "inputs": {"pixels": {"dtype": "uint8", "shape": ["batch", 1, 224, 224]}},
        "weight_products": PRODUCTS,
        "initializer_bytes": 22 * 2**20,
        "attention": {"blocks": BLOCKS, "head_size": 64, "heads": 3, "tokens": 197},
        "rewrites": {"class_token_last_block": {"applied": True, "why": "pooling reads the class token alone"}},
    }
    return {key: value for key, value in (facts | changes).items() if value is not None or key == "attention"}


def decomposed(**changes: Any) -> dict[str, Any]:
    """Its opset-16 file."""
    operators = {key: count for key, count in vit()["operators"].items() if key != "LayerNormalization"}
    return vit(**{"opset": 16, "operators": operators | {"Sqrt": NORMS, "Div": NORMS}} | changes)


def quantized(pairs: int = 49, *, weights_as_integers: bool = True, **changes: Any) -> dict[str, Any]:
    """Its int8 file: every MatMul with a weight quantised, `pairs` Q/DQ pairs on activations."""
    plain = {key: count for key, count in PRODUCTS.items() if key != "MatMul"}
    weights = PRODUCTS["MatMul"]
    counts = (pairs, pairs + weights) if weights_as_integers else (pairs + weights, pairs + weights)
    return vit(
        **{"weight_products": plain, "quantize_linear": counts[0], "dequantize_linear": counts[1]} | changes,
    )


def complete(**replaced: Any) -> GraphFacts:
    """A ViT's bundle with all six files; `replaced` by name with `_` for `-`, None leaves one out."""
    files = {
        "fp32": vit(),
        "fp32-op16": decomposed(),
        "fp16": vit(),
        "int8": quantized(),
        "int8-fp16": quantized(opset=19),
        "fp8": quantized(opset=19),
    }
    files |= {key.replace("_", "-"): value for key, value in replaced.items()}
    return GraphFacts("model.dtvit", {key: value for key, value in files.items() if value is not None})


def stack(name: str) -> Stack:
    """A stack by its name."""
    (named,) = [s for target in TARGETS.values() for s in target.stacks if s.name == name]
    return named


JP5, JP60, JP61 = "JetPack 5.1", "JetPack 6.0", "JetPack 6.1, 6.2"
JP70, JP72, JP722 = "JetPack 7.0, 7.1", "JetPack 7.2", "JetPack 7.2.2"
RTX_PC, TRT11, CPU = "RTX GPU, x86-64", "GPU from SM 7.5 on, Python 3.10 or newer", "ONNX Runtime and OpenVINO"
EVERY_STACK = [s.name for target in TARGETS.values() for s in target.stacks]

"""Jetson's deep-learning accelerator (DLA): which operators it takes through TensorRT.

Source of the table: github.com/NVIDIA/Deep-Learning-Accelerator-SW, `operators/README.md`, column "Orin DLA support
through TensorRT", for TensorRT 8.5 and 8.6. What later releases add is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator

from dtvit_edge.targets.facts import Finding, GraphFacts
from dtvit_edge.targets.model_files import serving_key
from dtvit_edge.targets.table import Stack

# Native, with limits of shape that the page lists. MatMul and Gemm need a constant second input.
NATIVE = frozenset(
    "Abs Add AveragePool BatchNormalization Clip Concat Constant Conv ConvTranspose Equal Gemm LeakyRelu LRN MatMul "
    "Max MaxPool Mul PRelu Relu Reshape Resize Sigmoid Slice Softmax Split Sub Sum Tanh Transpose Upsample".split()
)
# None, or only after the graph was rewritten by hand.
ABSENT = frozenset(
    "DequantizeLinear Div Erf Exp Expand Flatten Gather GlobalAveragePool HardSigmoid HardSwish Identity "
    "InstanceNormalization LayerNormalization Log Min Mish Neg Pad Pow QuantizeLinear Reciprocal ReduceMax ReduceMean "
    "ReduceSum Sqrt Squeeze Tile Unsqueeze Where".split()
)
_LISTED_FOR = ((8, 5), (8, 7))  # from, below


def rule(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    """What would run on DLA and what would fall back to the GPU; nothing where a target has no DLA at all."""
    if not stack.jetson or stack.tensorrt is None:
        return
    if not stack.dla:
        yield Finding("note", "dla", f"No DLA: {stack.no_dla}")
        return
    counts = facts.operators(serving_key(stack, "fp32") or "fp32")
    between = facts.activation_products()
    takes = sorted(f"{name} with a weight" if name == "MatMul" else name for name in counts if name in NATIVE)
    refused = [f"{name} ({count})" for name, count in sorted(counts.items()) if name in ABSENT]
    unlisted = sorted(name for name in counts if name not in NATIVE and name not in ABSENT)
    sentence = f"DLA ({stack.dla}) could take {', '.join(takes) or 'nothing'}"
    sentence += f"; back to the GPU would fall {', '.join(refused) or 'no operator'}"
    if between:
        sentence += f" and the {between} MatMul of two activations"
    if unlisted:
        sentence += f"; not known: {', '.join(unlisted)}"
    least, below = _LISTED_FOR
    if not least <= stack.tensorrt.version < below:
        sentence += f" (by NVIDIA's list for TensorRT 8.5 and 8.6; for {stack.tensorrt.title} not known)"
    sentence += ". DLA needs one fixed batch, and Q/DQ is not on the list. `build` does not use it."
    yield Finding("note", "dla", sentence)

"""The proof that an ONNX file computes what PyTorch computes, before anything is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtvit_edge.backend import in_batches
from dtvit_edge.backends.onnxruntime import OnnxRuntimeBackend
from dtvit_edge.bundle import MOST_ROUNDING, Golden, Reference, tolerance_of
from dtvit_edge.bundle.tolerances import FP32_FLOOR
from dtvit_edge.errors import VerdictError
from dtvit_edge.selftest import largest_deviation
from dtvit_edge.spec import OUTPUT_NAMES

BATCHES = (1, 3, 8)
# What tells images apart has to be this many times the tolerance: less, and answers to the wrong image would pass.
TOLD_APART = 4.0


def check_reference(reference: Reference) -> None:
    """Can anything be proved with this model?

    Raises:
        VerdictError: its logits hardly vary between the golden slices, or its own float32 is too far from float64.
    """
    least = float(np.min(list(reference.spread.values())))  # np.min keeps a NaN
    if not least > 0:
        raise VerdictError(
            f"the model's logits do not vary between the golden slices (standard deviations {reference.spread}), so "
            "that a comparison would prove nothing"
        )
    if not least > TOLD_APART * FP32_FLOOR:
        raise VerdictError(
            f"the model's logits hardly vary between the golden slices (standard deviation {least:.2g}, and float32 "
            f"may be {FP32_FLOOR:g} off), so that a comparison would prove nothing; was it trained?"
        )
    if not reference.rounding <= MOST_ROUNDING * least:
        raise VerdictError(
            f"the model is ill-conditioned: in float32 PyTorch's own logits are {reference.rounding:.3g} from float64, "
            f"more than {MOST_ROUNDING:g} of what tells slices apart ({least:.3g}); no other library can be held to it"
        )


def prove_parity(precision: str, data: bytes, golden: Golden, reference: Reference) -> dict[str, Any]:
    """Compare an ONNX file on ONNX Runtime's CPU with the golden logits, at batch 1, 3 and 8 (`rows_of`).

    Args:
        precision: a key of `dtvit_edge.bundle.MODEL_FILES`.
        golden: N slices, N of at least the largest batch.

    Returns:
        {"tolerance", "max_abs_difference": {batch: value}, "slices"}.

    Raises:
        VerdictError: a difference above the tolerance, or a value that is not finite.
    """
    tolerance = tolerance_of(precision, reference.rounding, reference.spread)
    differences: dict[str, float] = {}
    with OnnxRuntimeBackend(lambda: data, precision) as backend:
        for batch in BATCHES:
            rows = rows_of(batch, len(golden))
            logits = in_batches(backend.infer, golden.pixels[rows], batch)
            for name in OUTPUT_NAMES:
                if not np.isfinite(logits[name]).all():
                    raise VerdictError(f"{precision}: {name} is not finite at batch {batch}")
            worst = largest_deviation(logits, golden, rows)
            if not worst <= tolerance:
                raise VerdictError(
                    f"{precision}: ONNX Runtime differs from PyTorch by {worst:.3g} at batch {batch}, "
                    f"allowed {tolerance:.3g}"
                )
            differences[str(batch)] = worst
    return {"tolerance": tolerance, "max_abs_difference": differences, "slices": len(golden)}


def rows_of(batch: int, count: int) -> slice:
    """Which of the slices are compared at a batch size, always in full batches of it.

    All of them alone; beside others each at least once, the first ones in the largest batch and the last ones in the
    middle one. What a batch size does wrong it does to every slice in it: no kernel looks at what a slice holds.
    """
    smallest, middle, largest = BATCHES
    first = count // largest * largest
    if batch == smallest:
        return slice(0, count)
    if batch == largest:
        return slice(0, first)
    return slice(count - middle * max(1, -(-(count - first) // middle)), count)

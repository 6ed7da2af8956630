"""The proof that an ONNX file computes what PyTorch computes, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dtvit_edge.bundle import RELATIVE_TOLERANCES, TOLERANCES
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES
from export.onnx_graph import open_session

BATCHES = (1, 3, 8)


def prove_parity(
    precision: str, data: bytes, pixels: NDArray[np.uint8], reference: dict[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Compare an ONNX file on ONNX Runtime's CPU with the reference, at batch 1, 3 and 8.

    Args:
        precision: key of `dtvit_edge.bundle.TOLERANCES`, or of `RELATIVE_TOLERANCES`.
        pixels: (N, C, 224, 224) uint8, N of at least the largest batch; cut into batches, what is left over
            is a batch of its own.
        reference: PyTorch's fp32 logits of the same slices, by output name.

    Returns:
        {"tolerance", "max_abs_difference": {batch: value}, "slices", "reference_std": {output: value}}; the
        last is how far logits vary between slices, without which a small difference says nothing.

    Raises:
        VerdictError: a difference above the tolerance, a value that is not finite, or logits that vary less
            between slices than the tolerance allows.
    """
    session = open_session(data)
    spread = {name: float(values.std(axis=0).max()) for name, values in reference.items()}
    tolerance = tolerance_of(precision, reference)
    differences: dict[str, float] = {}
    if min(spread.values()) <= tolerance:
        raise VerdictError(
            f"{precision}: the model's logits hardly vary between the golden slices (standard deviations "
            f"{spread}), so that a comparison would prove nothing"
        )
    for batch in BATCHES:
        logits = run_batches(session, pixels, batch)
        worst = 0.0
        for name in OUTPUT_NAMES:
            if not (np.isfinite(logits[name]).all() and np.isfinite(reference[name]).all()):
                raise VerdictError(f"{precision}: {name} is not finite at batch {batch}")
            worst = max(worst, float(np.abs(logits[name] - reference[name]).max()))
        if worst > tolerance:
            raise VerdictError(
                f"{precision}: ONNX Runtime differs from PyTorch by {worst:.3g} at batch {batch}, allowed {tolerance:g}"
            )
        differences[str(batch)] = worst
    return {
        "tolerance": tolerance,
        "max_abs_difference": differences,
        "slices": len(pixels),
        "reference_std": spread,
    }


def tolerance_of(precision: str, reference: Mapping[str, NDArray[np.float32]]) -> float:
    """Largest |logit difference| that a precision may show on these slices."""
    if precision in TOLERANCES:
        return TOLERANCES[precision]
    spread = min(float(values.std(axis=0).max()) for values in reference.values())
    return RELATIVE_TOLERANCES[precision] * spread


def run_batches(
    session: onnxruntime.InferenceSession,
    pixels: NDArray[np.uint8],
    batch: int,
    step: Callable[[int], None] = lambda slices: None,
) -> dict[str, NDArray[np.float32]]:
    """All slices through a session, `batch` at a time, `step` told of each; logits by output name."""
    parts = []
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch]
        parts.append(session.run(list(OUTPUT_NAMES), {INPUT_NAME: part}))
        step(len(part))
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(OUTPUT_NAMES)}

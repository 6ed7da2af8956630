"""What the gate said of what an engine computes, and whether its answers are of the precision that was asked for.

An engine of int8 computes the rest in float16: `int8-fp16`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dtvit_edge.bundle import REFERENCE_PRECISION, Manifest
from dtvit_edge.bundle.verdicts import NOT_ASSESSED, PASSED, verdict_of
from dtvit_edge.errors import BundleError
from dtvit_edge.precisions import OPTIONAL
from dtvit_edge.selftest import tolerance_key
from dtvit_edge.trt.releases import PRECISIONS

FLOAT16 = "fp16"
# Of what the fp16 file deviates on a CPU: rounding to float16 cannot be as kind as this.
_LITTLE = 0.05


def engine_verdict(manifest: Manifest, precision: str) -> str:
    """The gate's verdict on an engine of a precision; `passed` of fp32, which was compared with PyTorch."""
    if precision == REFERENCE_PRECISION:
        return PASSED
    try:
        return verdict_of(manifest, tolerance_key(manifest, precision))
    except BundleError:
        return NOT_ASSESSED


def passed_precisions(manifest: Manifest) -> list[str]:
    """Precisions below fp32 of which engines passed their gate, but the `OPTIONAL`, which few GPUs run; else fp32."""
    lower = [p for p in PRECISIONS if p != REFERENCE_PRECISION and p not in OPTIONAL]
    lower = [p for p in lower if engine_verdict(manifest, p) == PASSED]
    return lower or [REFERENCE_PRECISION]


def batches_as_fp32(manifest: Manifest, precision: str, deviations: Mapping[int, float]) -> list[int]:
    """Batch sizes at which an engine answers as exactly as float32 alone can, although it was built for less.

    A fused region does not always show what it computes in, and TensorRT 8.6.0 made one of float32 of a graph that was
    to be float16 (H200): nothing but the time and these answers told.

    Args:
        deviations: of golden logits from float64, by batch size (`SelfTest.deviations`).
    """
    found = manifest.parity.get(FLOAT16, {}).get("max_abs_difference", {})
    if precision == REFERENCE_PRECISION or not found:
        return []
    most = min(manifest.tolerances[REFERENCE_PRECISION], _LITTLE * max(found.values()))
    return [batch for batch, deviation in deviations.items() if deviation <= most]

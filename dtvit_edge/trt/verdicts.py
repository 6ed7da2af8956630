"""What the gate said of what an engine computes. An engine of int8 computes the rest in float16: `int8-fp16`."""

from __future__ import annotations

from dtvit_edge.bundle import REFERENCE_PRECISION, Manifest
from dtvit_edge.bundle.verdicts import NOT_ASSESSED, PASSED, verdict_of
from dtvit_edge.errors import BundleError
from dtvit_edge.precisions import OPTIONAL
from dtvit_edge.selftest import tolerance_key
from dtvit_edge.trt.releases import PRECISIONS


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

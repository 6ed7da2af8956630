"""Golden slices through a backend on this device, against the reference's fp32 logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle, Manifest
from dtvit_edge.errors import BundleError, VerdictError
from dtvit_edge.spec import OUTPUT_NAMES

BATCHES = (1, 3, 8)


@dataclass(frozen=True)
class SelfTest:
    """How far a backend is from the golden logits.

    Attributes:
        deviations: largest |logit difference| by batch size, over both heads; NaN where a logit is not finite.
        tolerance: what the manifest allows for this precision.
    """

    backend: dict[str, str]
    precision: str
    slices: int
    deviations: dict[int, float]
    tolerance: float

    @property
    def worst(self) -> float:
        """The largest deviation; NaN if any is."""
        return float(np.max(list(self.deviations.values())))

    @property
    def passed(self) -> bool:
        """True where every deviation lies within the tolerance; a NaN never does."""
        return all(d <= self.tolerance for d in self.deviations.values())


def selftest(bundle: Bundle, backend: Backend, batches: Sequence[int] = BATCHES) -> SelfTest:
    """Run every golden slice at every batch size through an opened backend."""
    golden = bundle.golden()
    deviations = {}
    for batch in batches:
        worst = 0.0
        for start in range(0, len(golden), batch):
            # A last partial batch goes round to the first slices: every call has the size that is being tested.
            rows = np.arange(start, start + batch) % len(golden)
            logits = backend.infer(np.ascontiguousarray(golden.pixels[rows]))
            for name in OUTPUT_NAMES:
                difference = np.abs(logits[name].astype(np.float64) - golden.logits[name][rows])
                worst = float(np.max([worst, np.max(difference)]))  # np.max keeps a NaN, max() may drop it
        deviations[batch] = worst
    precision = backend.precision
    return SelfTest(backend.describe(), precision, len(golden), deviations, bundle.manifest.tolerances[precision])


def prove(bundle: Bundle, backend: Backend, batches: Sequence[int]) -> SelfTest:
    """A self-test that must pass.

    Raises:
        VerdictError: it does not; with how far off the backend is.
    """
    result = selftest(bundle, backend, batches)
    if not result.passed:
        said = ", ".join(f"{value:.3g} at batch {batch}" for batch, value in result.deviations.items())
        raise VerdictError(f"the engine differs from the golden logits by {said}, allowed {result.tolerance:.3g}")
    return result


def tolerance_key(manifest: Manifest, precision: str) -> str:
    """The manifest's tolerance for an engine of a precision; int8 engines compute the rest in float16.

    Raises:
        BundleError: it has none.
    """
    for key in ("int8-fp16", "int8") if precision == "int8" else (precision,):
        if key in manifest.tolerances:
            return key
    raise BundleError(f"{manifest.name}: the manifest has no tolerance for {precision}; export or calibrate it again")

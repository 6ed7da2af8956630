"""Golden slices through a backend on this device, against the reference's float64 logits.

The whole chain, from stored pixels on, is `scoring.proof`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Backend, Logits
from dtvit_edge.bundle import Bundle, Golden, Manifest
from dtvit_edge.errors import BundleError, VerdictError
from dtvit_edge.precisions import graphs_of
from dtvit_edge.spec import OUTPUT_NAMES

BATCHES = (1, 3, 8)


@dataclass(frozen=True)
class SelfTest:
    """How far a backend is from the golden logits.

    Attributes:
        deviations: largest |logit difference| by batch size, over both heads; NaN where a logit is not finite.
        tolerance: what the manifest allows for this precision.
        differing_bytes: of the prepared golden slices, to the manifest's; None where no chain was tested.
        chain: largest |logit difference| of each batch that went through the whole chain, in order; empty where none
            was tested.
    """

    backend: dict[str, str]
    precision: str
    slices: int
    deviations: dict[int, float]
    tolerance: float
    differing_bytes: int | None = None
    chain: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self) | {"deviations": {str(batch): value for batch, value in self.deviations.items()}}

    @property
    def worst(self) -> float:
        """The largest deviation; NaN if any is."""
        return float(np.max([*self.deviations.values(), *self.chain.values()]))

    @property
    def passed(self) -> bool:
        """True where every deviation lies within the tolerance and no byte differs; a NaN never does."""
        within = all(d <= self.tolerance for d in (*self.deviations.values(), *self.chain.values()))
        return within and not self.differing_bytes


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
            worst = float(np.max([worst, largest_deviation(logits, golden, rows)]))  # np.max keeps a NaN
        deviations[batch] = worst
    precision = backend.precision
    return SelfTest(backend.describe(), precision, len(golden), deviations, bundle.manifest.tolerances[precision])


def largest_deviation(logits: Logits, golden: Golden, rows: NDArray[np.int64] | slice = slice(None)) -> float:
    """The largest |difference| of logits to the golden ones of these rows, both heads; NaN where one is not finite."""
    differences = [np.abs(logits[name].astype(np.float64) - golden.logits[name][rows]).max() for name in OUTPUT_NAMES]
    return float(np.max(differences))


def require_passed(result: SelfTest) -> SelfTest:
    """The result of a self-test that must pass.

    Raises:
        VerdictError: it did not; with what differs, and how far.
    """
    if result.passed:
        return result
    if result.differing_bytes:
        raise VerdictError(
            f"preprocessing on this device differs from the bundle's golden slices in {result.differing_bytes} bytes"
        )
    batches = {f"at batch {batch}": value for batch, value in result.deviations.items()} | result.chain
    said = ", ".join(f"{value:.3g} {where}" for where, value in batches.items() if not value <= result.tolerance)
    raise VerdictError(f"the engine differs from the golden logits by {said}, allowed {result.tolerance:.3g}")


def tolerance_key(manifest: Manifest, precision: str) -> str:
    """The manifest's tolerance for an engine of a precision; int8 engines compute the rest in float16.

    Raises:
        BundleError: it has none.
    """
    for key in (*(row.name for row in graphs_of(precision) if row.typed), precision):
        if key in manifest.tolerances:
            return key
    raise BundleError(f"{manifest.name}: the manifest has no tolerance for {precision}; export or calibrate it again")

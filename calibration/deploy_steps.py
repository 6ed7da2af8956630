"""What became of each step of a deployment, read off the bundle that it left."""

from __future__ import annotations

from dataclasses import dataclass

from dtvit_edge.bundle import MODEL_FILES, REFUSED, Bundle
from dtvit_edge.bundle.verdicts import FAILED, INCONCLUSIVE, PASSED, gate_verdicts
from dtvit_edge.precisions import OPTIONAL

EXPORT, CALIBRATE, BUILD, TUNE = "export", "calibrate", "build", "tune"
NOT_ASKED, LEFT = "not asked for", "left for the device"


@dataclass(frozen=True)
class Outcome:
    """What a step came to for one precision, or for all where `precision` is empty.

    Attributes:
        verdict: the gate's words, `NOT_ASKED` or `LEFT`.
        words: what was made, why not, or what is to be typed.
    """

    precision: str
    verdict: str
    words: str


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        seconds: that it took; None where nothing was run.
        before: it had ended before and was not repeated.
    """

    name: str
    outcomes: tuple[Outcome, ...]
    seconds: float | None = None
    before: bool = False

    @property
    def refused(self) -> tuple[str, ...]:
        """What has a negative verdict: the step's name, and the precision where it is about one."""
        negative = (o for o in self.outcomes if o.verdict in (FAILED, INCONCLUSIVE) and o.precision not in OPTIONAL)
        return tuple(f"{self.name} {outcome.precision}".strip() for outcome in negative)


def export_outcomes(bundle: Bundle) -> tuple[Outcome, ...]:
    """One for each float file: how far it is from PyTorch, or why it was left out."""
    outcomes = []
    parity = bundle.manifest.parity
    for precision, entry in ((name, parity[name]) for name in MODEL_FILES if name in parity):
        if REFUSED in entry:
            outcomes.append(Outcome(precision, FAILED, f"left out: {entry[REFUSED]}"))
            continue
        worst = max(entry["max_abs_difference"].values())
        distance = f"at most {worst:.3g} from PyTorch in float64 (allowed {entry['tolerance']:g})"
        outcomes.append(Outcome(precision, PASSED, f"{MODEL_FILES[precision]}, {distance}"))
    return tuple(outcomes)


def calibration_outcomes(bundle: Bundle) -> tuple[Outcome, ...]:
    """One for each lower precision: its file, or what the gate has against it."""
    summary = bundle.manifest.calibration or {}
    outcomes, judged = [], gate_verdicts(bundle.manifest)
    for verdict in summary.get("verdicts", ()):
        precision = verdict["precision"]
        words = MODEL_FILES[precision]
        said = judged[precision]
        if said != PASSED:
            there = "kept" if precision in bundle.manifest.models else "not installed"
            words = f"{words} is {there}: {'; '.join(verdict['reasons'])}"
        if said == INCONCLUSIVE:
            words += "; give more slices (--least-slices sets how many are asked at home)"
        outcomes.append(Outcome(precision, said, words))
    return tuple(outcomes)

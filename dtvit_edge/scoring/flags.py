"""What thresholds make of golden logits: which slices are positive, and which studies are flagged.

Golden slices come from phantom studies, one after the other, `GOLDEN_STUDY` of each; those stand for the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dtvit_edge.backend import Logits
from dtvit_edge.scoring.aggregate import mean_of_highest
from dtvit_edge.scoring.pipeline import probabilities
from dtvit_edge.spec import PreprocessSpec

GOLDEN_STUDY = 3  # slices, as `export` takes them


@dataclass(frozen=True)
class Flags:
    """Positive slices and flagged studies, in order."""

    slices: tuple[bool, ...]
    studies: tuple[bool, ...]

    def differences(self, other: Flags) -> str:
        """How many differ from another model's, in words; empty where none does."""
        slices = sum(a != b for a, b in zip(self.slices, other.slices, strict=True))
        studies = sum(a != b for a, b in zip(self.studies, other.studies, strict=True))
        said = [f"{n} of {len(all_)} {what}" for n, all_, what in
                ((slices, self.slices, "slices"), (studies, self.studies, "studies")) if n]  # fmt: skip
        return ", ".join(said)


def flags(logits: Logits, spec: PreprocessSpec, thresholds: Mapping[str, float]) -> Flags:
    """The flags of golden logits at thresholds, by level."""
    scores = [ich for ich, _ in probabilities({name: values.astype(np.float32) for name, values in logits.items()})]
    groups = [scores[i : i + GOLDEN_STUDY] for i in range(0, len(scores), GOLDEN_STUDY)]
    studies = [mean_of_highest(group, spec.top_places) for group in groups]
    return Flags(
        tuple(score >= thresholds["slice"] for score in scores),
        tuple(score >= thresholds["study"] for score in studies),
    )

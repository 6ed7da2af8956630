"""`run.json`: what produced the results. It names no folder, since folder names can carry patients' names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.environment import machine
from dtvit_edge.preprocess import native
from dtvit_edge.results import StudyScore
from dtvit_edge.scoring.api import thresholds_of
from dtvit_edge.scoring.opened import RunModel
from dtvit_edge.scoring.timings import Timings
from dtvit_edge.spec import NOTICE


@dataclass(frozen=True)
class RunFacts:
    """When a run began, and what its stages took."""

    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    timings: Timings = field(default_factory=Timings)


def run_report(
    bundle: Bundle,
    identity: dict[str, Any],
    model: RunModel,
    studies: Sequence[StudyScore],
    counts: dict[str, Any],
    facts: RunFacts,
) -> dict[str, Any]:
    """What `run.json` holds, as plain JSON types.

    Args:
        identity: of the run.
        counts: of slices, by name.
    """
    return {
        "notice": NOTICE,
        "bundle": {
            "name": bundle.manifest.name,
            "digest": bundle.digest,
            "signer": bundle.signer,
            "training": bundle.manifest.training,
            "untrained_heads": bundle.manifest.untrained_heads,
            "encoder": bundle.manifest.encoder,
            "profile": bundle.manifest.profile,
        },
        "model": identity["model"],
        "thresholds": thresholds_of(bundle, model.options).to_dict(),
        "spec": bundle.manifest.spec.to_dict(),
        "spec_digest": identity["spec"],
        "options": identity["options"],
        "configuration_from": model.why,
        "backend": identity["backend"],
        "packages": identity["packages"],
        "machine": machine(),
        "cpu_preprocessing": native.description(),
        **model.report_fields(),
        "counts": {"studies": dict(Counter(str(study.status) for study in studies)), **counts},
        "seconds": {stage: round(value, 4) for stage, value in facts.timings.seconds.items()},
        "started": facts.started.isoformat(timespec="seconds"),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }

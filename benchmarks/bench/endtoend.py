"""From a folder to the study's result: `run.run` as a user's command calls it, and what it costs a slice.

A run opens its model. So every round scores the first study alone and then all of them: the difference, divided by the
slices between, is what a slice costs from file to result once a model is open, whatever the run overlaps. Both raw
times are kept. Every slice goes through the model, those without brain too (`keep_all`), as a plain pipeline does.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.sides import Side
from dtvit_edge.errors import VerdictError
from dtvit_edge.reasons import Status
from dtvit_edge.run import RUN, run
from dtvit_edge.scoring import Options

INSIDE = (
    "run.run over whole folders: discover, read, preprocess, infer, aggregate, write; per slice: all studies less one"
)

Decisions = dict[str, bool]


@dataclass(frozen=True)
class Whole:
    """One run.

    Attributes:
        seconds: from the call to the files; stages: as its run.json says, in seconds.
        slices: that were scored.
        decisions: by SOP instance, whether haemorrhage is seen; flagged: by study.
    """

    seconds: float
    stages: dict[str, float]
    slices: int
    decisions: Decisions
    flagged: dict[str, bool | None]


def score(side: Side, folders: Sequence[Path], threads: int | None) -> Whole:
    """Score the folders into an output folder of their own.

    Raises:
        VerdictError: nothing was scored.
    """
    options = Options(
        backend=side.backend, precision=side.precision, hint=side.hint, threads=threads, any_series=True, keep_all=True
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        start = time.perf_counter()
        report = run(side.bundle, list(folders), out, options)
        seconds = time.perf_counter() - start
        stages = json.loads((out / RUN).read_text(encoding="utf-8"))["seconds"]
    scored = [row for study in report.studies for row in study.slices if row.status is Status.SCORED]
    if not scored:
        raise VerdictError(f"{side.name}: a run over the studies scored nothing")
    return Whole(
        seconds,
        {stage: float(value) for stage, value in stages.items()},
        len(scored),
        {row.sop_uid: bool(row.ich) for row in scored},
        {result.study.study_uid: result.study.flagged for result in report.studies},
    )


def slice_ms(one: Whole, every: Whole) -> float:
    """Milliseconds a slice costs beyond the first study, opening and start left out."""
    return (every.seconds - one.seconds) * 1e3 / max(every.slices - one.slices, 1)

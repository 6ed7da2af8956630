"""From a folder to the study's result: `run.run` as a user's command calls it, and what that costs a slice.

A run opens its model between two stages of its progress: after the headers, before the slices. That time is taken off
and kept apart, so that what is left is what a slice costs once a model is open, whatever the run overlaps. Every slice
goes through the model, those without brain too (`keep_all`), as in a plain script.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure.configurations import Side
from benchmarks.measure.statistics import ratio
from benchmarks.results import names
from benchmarks.results.names import part
from dtvit_edge.errors import VerdictError
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.run import RUN, run

INSIDE = (
    "run.run over all folders: discover, read, preprocess, infer, aggregate, write; opening the model is kept apart"
)
# The stages of a run's progress between which the model is opened.
HEADERS, SLICES = "headers", "slices"

Decisions = dict[str, bool]


@dataclass(frozen=True)
class Whole:
    """One run.

    Attributes:
        seconds: from the call to the files, less what opening the model took, which is opening_s; None where the model
            was open before.
        stages: as its run.json says, in seconds.
        slices: that were scored.
        decisions: by SOP instance, whether haemorrhage is seen; flagged: by study.
    """

    seconds: float
    opening_s: float | None
    stages: dict[str, float]
    slices: int
    decisions: Decisions
    flagged: dict[str, bool | None]


def score(side: Side, folders: Sequence[Path], threads: int | None, workers: int | None = None) -> Whole:
    """Score the folders into an output folder of their own.

    Args:
        workers: threads that read ahead; None takes the runtime's default.

    Raises:
        VerdictError: nothing was scored.
    """
    options = side.options(threads, workers=workers, any_series=True, keep_all=True)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        opening = _Opening()
        start = time.perf_counter()
        report = run(side.bundle, list(folders), out, options, progress=opening)
        seconds = time.perf_counter() - start - opening.seconds
        stages = json.loads((out / RUN).read_text(encoding="utf-8"))["seconds"]
    scored = [row for study in report.studies for row in study.slices if row.status is Status.SCORED]
    if not scored:
        raise VerdictError(f"{side.name}: a run over the studies scored nothing")
    return Whole(
        seconds,
        opening.seconds,
        {stage: float(value) for stage, value in stages.items()},
        len(scored),
        {row.sop_uid: bool(row.ich) for row in scored},
        {result.study.study_uid: result.study.flagged for result in report.studies},
    )


@dataclass
class Runs:
    """Alternating runs of everything.

    Attributes:
        samples: milliseconds by `SIDE: a slice`, `SIDE: opening` and `SIDE: stage NAME`, the last by the slice as well.
        last: the last run of each.
    """

    samples: dict[str, list[float]] = field(default_factory=dict)
    last: dict[str, Whole] = field(default_factory=dict)

    def add(self, name: str, whole: Whole) -> None:
        """Take one run."""
        found = {names.A_SLICE: whole.seconds * 1e3 / whole.slices}
        found |= {} if whole.opening_s is None else {names.OPENING: whole.opening_s * 1e3}
        found |= {f"stage {stage}": seconds * 1e3 / whole.slices for stage, seconds in whole.stages.items()}
        for key, value in found.items():
            self.samples.setdefault(part(name, key), []).append(value)
        self.last[name] = whole

    def summary(self) -> dict[str, float]:
        """Medians, and studies a minute."""
        found = {part(key, "median"): statistics.median(values) for key, values in self.samples.items()}
        for name, whole in self.last.items():
            a_study = statistics.median(self.samples[part(name, names.A_SLICE)]) * whole.slices / len(whole.flagged)
            found[part(name, "studies a minute")] = 60e3 / a_study
        return found

    def against(self, own: str, peer: str, seed: int) -> dict[str, float]:
        """How much faster than a peer's script, and how many of its decisions are the same."""
        ours, theirs = self.last[own], self.last[peer]
        shared = ours.decisions.keys() & theirs.decisions.keys()
        same = sum(ours.decisions[sop] == theirs.decisions[sop] for sop in shared)
        flagged = sum(theirs.flagged.get(uid) == flag for uid, flag in ours.flagged.items())
        theirs_ms, ours_ms = (self.samples[part(name, names.A_SLICE)] for name in (peer, own))
        times, key = ratio(theirs_ms, ours_ms, paired=True, seed=seed), part(own, f"times as fast as {peer}")
        found = {
            part(own, f"slices decided as by {peer}"): same / len(shared),
            part(own, f"studies flagged as by {peer}"): flagged / len(ours.flagged),
            key: times.value,
        }
        return found | ({f"{key}, low": times.low, f"{key}, high": times.high} if len(ours_ms) > 1 else {})


def measure(
    calls: Mapping[str, Callable[[], Whole]],
    rounds: int,
    step: Callable[[int], None],
    mark: Callable[[], None] = lambda: None,
) -> Runs:
    """Every run by turns; who is first goes round.

    Args:
        calls: a run over all folders, by the name of a side or of a peer's script.
        mark: called before each of them.
    """
    runs, order = Runs(), list(calls)
    for round_ in range(rounds):
        first = round_ % len(order)
        for name in order[first:] + order[:first]:
            mark()
            runs.add(name, calls[name]())
            step(1)
    return runs


class _Opening:
    """A Progress that sees how long a run opens its model."""

    def __init__(self) -> None:
        self._since = self.seconds = 0.0

    @contextmanager
    def __call__(self, stage: str, total: int) -> Iterator[Callable[[int], None]]:
        if stage == SLICES:
            self.seconds = time.perf_counter() - self._since
        yield lambda steps: None
        if stage == HEADERS:
            self._since = time.perf_counter()

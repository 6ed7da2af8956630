"""From a folder to the study's result: `run.run` as a user's command calls it, and what it costs a slice.

A run opens its model. So every round scores the first study alone and then all of them: the difference, divided by the
slices between, is what a slice costs from file to result once a model is open, whatever the run overlaps. Both raw
times are kept. Every slice goes through the model, those without brain too (`keep_all`), as a plain pipeline does.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import names
from benchmarks.bench.names import part
from benchmarks.bench.sides import Side
from benchmarks.bench.statistics import ratio
from dtvit_edge.errors import VerdictError
from dtvit_edge.reasons import Status
from dtvit_edge.run import RUN, run

INSIDE = (
    "run.run over whole folders: discover, read, preprocess, infer, aggregate, write; a slice: all studies less the "
    "first, so that opening the model is not in it"
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


@dataclass
class Runs:
    """Alternating runs of everything.

    Attributes:
        samples: milliseconds by `SIDE: a slice`, `SIDE: first study`, `SIDE: all studies` and `SIDE: stage NAME`, the
            last divided by the slices.
        last: the last run of each over all studies.
    """

    samples: dict[str, list[float]]
    last: dict[str, Whole]

    def add(self, name: str, whole: Whole, slice_ms: float | None, **more: float) -> None:
        """Take one run over all studies."""
        found = {names.A_SLICE: slice_ms} if slice_ms is not None else {}
        found |= {f"stage {stage}": seconds * 1e3 / whole.slices for stage, seconds in whole.stages.items()}
        for key, value in {**found, **{key.replace("_", " "): ms for key, ms in more.items()}}.items():
            self.samples.setdefault(part(name, key), []).append(value)
        self.last[name] = whole

    def summary(self) -> dict[str, float]:
        """Medians, and studies a minute."""
        found = {part(key, "median"): statistics.median(values) for key, values in self.samples.items()}
        for name, whole in self.last.items():
            if (key := part(name, names.A_SLICE)) in self.samples:
                a_study = statistics.median(self.samples[key]) * whole.slices / len(whole.flagged)
                found[part(name, "studies a minute")] = 60e3 / a_study
        return found

    def against(self, own: str, peer: str, seed: int) -> dict[str, float]:
        """How much faster than a peer's script, and how many of its decisions are the same."""
        ours, theirs = self.last[own], self.last[peer]
        shared = ours.decisions.keys() & theirs.decisions.keys()
        same = sum(ours.decisions[sop] == theirs.decisions[sop] for sop in shared)
        flagged = sum(theirs.flagged.get(uid) == flag for uid, flag in ours.flagged.items())
        found = {
            part(own, f"slices decided as by {peer}"): same / len(shared),
            part(own, f"studies flagged as by {peer}"): flagged / len(ours.flagged),
        }
        if b := self.samples.get(part(own, names.A_SLICE)):
            times = ratio(self.samples[part(peer, names.A_SLICE)], b, paired=True, seed=seed)
            key = part(own, f"times as fast as {peer}")
            found[key] = times.value
            found |= {f"{key}, low": times.low, f"{key}, high": times.high} if len(b) > 1 else {}
        return found


def measure(
    sides: Mapping[str, Callable[[Sequence[Path]], Whole]],
    scripts: Mapping[str, Callable[[], Whole]],
    folders: Sequence[Path],
    rounds: int,
    step: Callable[[int], None],
) -> Runs:
    """Run every side over the first folder and over all of them, and every peer's script over all, by turns.

    Args:
        sides: folders to a run, by name; scripts: a peer's run over the same slices, its model open already.
    """
    runs = Runs({}, {})
    for _ in range(rounds):
        for name, call in sides.items():
            one, every = call(folders[:1]), call(folders)
            more = every.slices - one.slices
            a_slice = (every.seconds - one.seconds) * 1e3 / more if more else None
            runs.add(name, every, a_slice, first_study=one.seconds * 1e3, all_studies=every.seconds * 1e3)
            step(1)
        for name, script in scripts.items():
            whole = script()
            runs.add(name, whole, whole.seconds * 1e3 / whole.slices)
            step(1)
    return runs

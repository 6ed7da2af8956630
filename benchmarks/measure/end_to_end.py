"""From a folder to the study's result: `run.run` as a user's command calls it, and what that costs a slice.

A run opens its model between two stages of its progress: after the headers, before the slices. That time is taken off
and kept apart, so that what is left is what a slice costs once a model is open, whatever the run overlaps. Every slice
goes through the model, those without brain too (`keep_all`), as in a plain script.
"""

from __future__ import annotations

import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure.configurations import Configuration
from benchmarks.measure.statistics import ratio
from benchmarks.results import names
from benchmarks.results.names import key_of
from dtvit_edge.errors import VerdictError
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.configuration import resolve
from dtvit_edge.scoring.opened import opened_model
from dtvit_edge.scoring.run import RUN, run

INSIDE_TIMER = (
    "run.run over all folders: discover, read, preprocess, infer, aggregate, write; opening the model is kept apart"
)
Decisions = dict[str, bool]


@dataclass(frozen=True)
class FolderRun:
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


def score(
    configuration: Configuration, folders: Sequence[Path], threads: int | None, workers: int | None = None
) -> FolderRun:
    """Score the folders into a new output folder.

    Args:
        workers: threads that read ahead; None takes the runtime's default.

    Raises:
        VerdictError: nothing was scored.
    """
    options = configuration.options(threads, workers=workers, any_series=True, keep_all=True)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        start = time.perf_counter()
        with opened_model(configuration.bundle, resolve(configuration.bundle, options)) as model:
            opening_s = time.perf_counter() - start
            start = time.perf_counter()
            report = run(configuration.bundle, list(folders), out, options, model=model)
            seconds = time.perf_counter() - start
        stages = json.loads((out / RUN).read_text(encoding="utf-8"))["seconds"]
        with (out / "slices.csv").open(encoding="utf-8", newline="") as file:
            scored = [row for row in csv.DictReader(file) if row["status"] == Status.SCORED]
    if not scored:
        raise VerdictError(f"{configuration.name}: a run over the studies scored nothing")
    return FolderRun(
        seconds,
        opening_s,
        {stage: float(value) for stage, value in stages.items()},
        len(scored),
        {row["sop_uid"]: row["ich"] == "1" for row in scored},
        {study.study_uid: study.flagged for study in report.studies},
    )


@dataclass
class FolderRuns:
    """Alternating runs of everything.

    Attributes:
        samples: milliseconds by `CONTENDER: a slice`, `CONTENDER: opening` and `CONTENDER: stage NAME`, the last by
            the slice as well.
        last: the last run of each.
    """

    samples: dict[str, list[float]] = field(default_factory=dict)
    last: dict[str, FolderRun] = field(default_factory=dict)

    def add(self, name: str, folder_run: FolderRun) -> None:
        """Take one run."""
        slice_ms = 1e3 / folder_run.slices
        milliseconds = {key_of(name, names.PER_SLICE): folder_run.seconds * slice_ms}
        if folder_run.opening_s is not None:
            milliseconds[key_of(name, names.MODEL_OPENING)] = folder_run.opening_s * 1e3
        milliseconds |= {names.stage_key(name, s): seconds * slice_ms for s, seconds in folder_run.stages.items()}
        for key, value in milliseconds.items():
            self.samples.setdefault(key, []).append(value)
        self.last[name] = folder_run

    def summary(self) -> dict[str, float]:
        """Medians, and studies a minute."""
        figures = {key_of(key, "median"): statistics.median(values) for key, values in self.samples.items()}
        for name, folder_run in self.last.items():
            slice_ms = statistics.median(self.samples[key_of(name, names.PER_SLICE)])
            study_ms = slice_ms * folder_run.slices / len(folder_run.flagged)
            figures[key_of(name, "studies a minute")] = 60e3 / study_ms
        return figures

    def against(self, configuration: str, peer: str, seed: int) -> dict[str, float]:
        """How much faster than a peer's script, and how many of its decisions are the same."""
        ours, theirs = self.last[configuration], self.last[peer]
        shared = ours.decisions.keys() & theirs.decisions.keys()
        same = sum(ours.decisions[sop] == theirs.decisions[sop] for sop in shared)
        flagged = sum(theirs.flagged.get(uid) == flag for uid, flag in ours.flagged.items())
        theirs_ms, ours_ms = (self.samples[key_of(name, names.PER_SLICE)] for name in (peer, configuration))
        times = ratio(theirs_ms, ours_ms, paired=True, seed=seed)
        key = key_of(configuration, f"times as fast as {peer}")
        figures = {
            key_of(configuration, f"slices decided as by {peer}"): same / len(shared),
            key_of(configuration, f"studies flagged as by {peer}"): flagged / len(ours.flagged),
            key: times.value,
        }
        return figures | ({f"{key}, low": times.low, f"{key}, high": times.high} if len(ours_ms) > 1 else {})


def measure(
    calls: Mapping[str, Callable[[], FolderRun]],
    rounds: int,
    step: Callable[[int], None],
    mark: Callable[[], None] = lambda: None,
) -> FolderRuns:
    """Every run by turns; who is first goes round.

    Args:
        calls: a run over all folders, by the name of a configuration or of a peer's script.
        mark: called before each of them.
    """
    runs, order = FolderRuns(), list(calls)
    for round_ in range(rounds):
        first = round_ % len(order)
        for name in order[first:] + order[:first]:
            mark()
            runs.add(name, calls[name]())
            step(1)
    return runs

"""Measures for a stated time which faithful configuration scores fastest on this machine: `dtvit-edge tune`.

What is timed is what a study costs: golden slices from their stored pixels through preprocessing and the model. Every
candidate is looked at once; it has to answer the golden slices within its tolerance, with the flags of their reference
at the set thresholds. The fast ones are then timed in turns, all in one process, so that a machine that slows down
slows them all; the slower half goes after each stage (successive halving), but nobody who cannot be told from the
fastest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import comb
from statistics import median
from typing import Any

import numpy as np

from dtvit_edge import backends
from dtvit_edge.backend import Logits
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import DeviceProfile, Measured
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import DtvitError, VerdictError
from dtvit_edge.precisions import EXACT, TRIMMED
from dtvit_edge.progress import Progress, silent
from dtvit_edge.scoring.candidates import Setting, find_settings
from dtvit_edge.scoring.configuration import Resolved, fastest
from dtvit_edge.scoring.device_facts import library_versions, machine_facts
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.flags import Flags, flags
from dtvit_edge.scoring.opened import opened_model
from dtvit_edge.scoring.proof import golden_slices
from dtvit_edge.selftest import largest_deviation, tolerance_key

Clock = Callable[[], float]

# The share of the time after which no new candidate is opened; what is left is for those that are fast.
FIRST_LOOKS = 0.6
# A first look is a few calls, of which the quickest counts, as other work only ever adds to them. What took this many
# times as long as the fastest is not looked at again, beyond so many that always are: one look may be luck.
LOOKS = 2
FIRST_CUT, LEAST_FIELD = 2.0, 4
# Models that lie in memory at once.
MOST_OPEN = 6
# Fewer rounds in all give no interval; more in a stage than the last narrow none that matters.
LEAST_ROUNDS, MOST_ROUNDS = 6, 400
# Slices of a round, where batches are smaller; what CPU backends take a call.
LEAST_SLICES = 8
# Of the interval of a median.
CONFIDENCE = 0.95


@dataclass
class Trial:
    """A configuration under way.

    Attributes:
        ms: milliseconds a slice, of each round.
    """

    setting: Setting
    batch: int
    deviation: float
    ms: list[float] = field(default_factory=list)

    @property
    def measured(self) -> Measured:
        """The figures so far."""
        low, high = median_interval(self.ms)
        configuration = self.setting.at(self.batch)
        return Measured(configuration, median(self.ms), low, high, len(self.ms), self.deviation)


class Tuner:
    """One measurement of one bundle.

    Args:
        seconds: how long; the first candidate is measured however long it takes.
        clock: in seconds.
    """

    def __init__(self, bundle: Bundle, seconds: float, clock: Clock = time.perf_counter) -> None:
        self._bundle, self._clock = bundle, clock
        self._seconds, self._start = seconds, clock()
        self._golden = bundle.golden()
        self._slices = golden_slices(self._golden)
        self._thresholds = bundle.thresholds.values
        self._flags = self._flags_of(dict(self._golden.logits))
        self.left_out: dict[str, str] = {}

    def run(self, progress: Progress = silent) -> DeviceProfile:
        """Measure.

        Raises:
            VerdictError: nothing here answers the golden slices as it has to.
            MissingDependency: no backend is here.
        """
        settings, self.left_out = find_settings(self._bundle)
        trials = self._first_looks(settings, progress)
        if not trials:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
            raise VerdictError(f"no configuration answers the golden slices as it has to ({reasons})")
        field_ = self._race(promising(trials), progress)
        chosen, why = fastest([trial.measured for trial in field_])
        return DeviceProfile(
            manifest=self._bundle.digest,
            thresholds=self._thresholds,
            machine=machine_facts(),
            versions=library_versions(),
            seconds=round(self._elapsed, 3),
            chosen=chosen.configuration,
            why=why,
            measured=tuple(sorted((trial.measured for trial in trials), key=lambda m: m.ms)),
            left_out=self.left_out,
        )

    @property
    def _elapsed(self) -> float:
        return self._clock() - self._start

    def _first_looks(self, settings: list[Setting], progress: Progress) -> list[Trial]:
        """Open each candidate by itself, let it answer the golden slices at each batch, and take the time of it."""
        trials: list[Trial] = []
        with progress("first looks", len(settings)) as step:
            for setting in settings:
                step(1)
                if trials and self._elapsed > FIRST_LOOKS * self._seconds:
                    self.left_out[setting.words] = f"not reached in {self._seconds:g} s; --seconds gives more"
                    continue
                try:
                    with self._opened(setting) as executor:
                        for batch in sorted({1, executor.batch}):
                            self._look(trials, setting, executor, batch)
                except DtvitError as error:
                    self.left_out[setting.words] = str(error)
        return trials

    def _look(self, trials: list[Trial], setting: Setting, executor: Executor, batch: int) -> None:
        count = len(self._slices)
        rows = [np.arange(start, start + batch) % count for start in range(0, count, batch)]
        calls = [self._call(executor, [self._slices[i] for i in indices]) for indices in rows]
        manifest = self._bundle.manifest
        answers = [logits for _, logits in calls]
        deviation = max(largest_deviation(a, self._golden, r) for a, r in zip(answers, rows, strict=True))
        engine = backends.runs_engines(setting.backend)
        key = tolerance_key(manifest, setting.precision) if engine else setting.precision
        tolerance = manifest.tolerances[key]
        if not deviation <= tolerance:
            words = f"differs from the golden logits by {deviation:.3g}, allowed {tolerance:.3g}"
            self.left_out[setting.at(batch).words] = words
            return
        joined = {name: np.concatenate([a[name] for a in answers])[:count] for name in answers[0]}
        if setting.precision not in EXACT and (changed := self._flags_of(joined).differences(self._flags)):
            self.left_out[setting.at(batch).words] = f"changes flags of golden slices: {changed}"
            return
        timed = [seconds for seconds, _ in calls[1:]]  # the first warms up
        while len(timed) < LOOKS:
            timed.append(self._call(executor, [self._slices[i] for i in rows[0]])[0])
        # Of a model whose time depends on the slice the quickest call would be that of the emptiest one.
        quickest = median if setting.precision in TRIMMED.values() else min
        trials.append(Trial(setting, batch, float(deviation), [1000 * quickest(timed) / batch]))

    def _race(self, trials: list[Trial], progress: Progress) -> list[Trial]:
        """Time the trials in turns, and drop the slower half stage by stage; returns those who were left."""
        stages = max(1, (len(trials) - 1).bit_length())
        with ExitStack() as stack, progress("rounds", 100) as step:
            executors = {s: stack.enter_context(self._opened(s)) for s in {t.setting: None for t in trials}}
            for executor in executors.values():
                self._call(executor, self._slices[: executor.batch])  # warms up
            for trial in trials:
                trial.ms.clear()
            began, shown = self._elapsed, 0
            for stage in range(1, stages + 1):
                until = began + (self._seconds - began) * stage / stages
                for number in range(MOST_ROUNDS):
                    if len(trials[0].ms) >= LEAST_ROUNDS and self._elapsed >= until:
                        break
                    for trial in trials[number % len(trials) :] + trials[: number % len(trials)]:
                        self._round(trial, executors[trial.setting], number)
                    done = min(99, int(100 * (self._elapsed - began) / max(self._seconds - began, 1e-9)))
                    step(max(0, done - shown))
                    shown = max(shown, done)
                trials = _better_half(trials)
        return trials

    def _round(self, trial: Trial, executor: Executor, number: int) -> None:
        """As many slices as the largest batch has, in the trial's batches: all trials do the same work.

        Of a model that takes one slice a call as many as of others, since its time depends on what a slice shows.
        """
        count, size = len(self._slices), max(executor.batch, LEAST_SLICES)
        size -= size % executor.batch
        start, seconds = number * size, 0.0
        for first in range(start, start + size, trial.batch):
            seconds += self._call(executor, [self._slices[i % count] for i in range(first, first + trial.batch)])[0]
        trial.ms.append(1000 * seconds / size)

    def _call(self, executor: Executor, slices: list[Slice]) -> tuple[float, Logits]:
        began = self._clock()
        executor.submit([executor.prepare(slice_) for slice_ in slices])
        result = executor.collect()
        return self._clock() - began, result.logits

    @contextmanager
    def _opened(self, setting: Setting) -> Iterator[Executor]:
        with opened_model(self._bundle, Resolved(setting.options, "a candidate")) as model:
            yield model.executor

    def _flags_of(self, logits: Mapping[str, Any]) -> Flags:
        return flags(dict(logits), self._bundle.manifest.spec, self._thresholds)


def median_interval(values: list[float]) -> tuple[float, float]:
    """The interval of a median that makes no assumption: order statistics by the sign test.

    Of fewer than six values, which have none at `CONFIDENCE`, the lowest and the highest.
    """
    ordered, count = sorted(values), len(values)
    tail, below = (1 - CONFIDENCE) / 2, 0.0
    for rank in range(count // 2 + 1):
        below += comb(count, rank) / 2**count
        if below > tail:
            break
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[count - 1 - rank]


def promising(trials: list[Trial]) -> list[Trial]:
    """Those that a first look does not rule out: near the fastest, of `MOST_OPEN` settings at most.

    The fastest exact one is always among them: one look does not tell that it is slower, and it wins where it is not.
    """
    ordered = sorted(trials, key=lambda t: t.ms[0])
    exact = next((t for t in ordered if t.setting.precision in EXACT and t.setting.hint is None), None)
    near = [
        t for n, t in enumerate(ordered) if t is exact or n < LEAST_FIELD or t.ms[0] <= FIRST_CUT * ordered[0].ms[0]
    ]
    first = [exact.setting] if exact else []
    settings = list(dict.fromkeys([*first, *(t.setting for t in near)]))[:MOST_OPEN]
    return [t for t in near if t.setting in settings]


def _better_half(trials: list[Trial]) -> list[Trial]:
    """The faster half, and whoever cannot be told from the fastest."""
    ordered = sorted(trials, key=lambda t: median(t.ms))
    limit = ordered[0].measured.high_ms
    half = max(1, (len(ordered) + 1) // 2)
    return ordered[:half] + [t for t in ordered[half:] if t.measured.low_ms <= limit]

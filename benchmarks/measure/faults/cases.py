"""The cases of a mutation run: which study gets which faults, drawn from one seed, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydicom

from benchmarks.measure.faults import file_faults, geometry_faults, pixel_faults, shrug_series, shrugs, tag_faults
from benchmarks.measure.faults.judging import FLAGGED, SCORED, Verdict, covers_head, judge
from benchmarks.measure.faults.running import run_delivery
from benchmarks.measure.faults.studies import Delivery, Scan, deliver, phantom_scan
from benchmarks.measure.faults.targets import Kind, Rng
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import plan_study
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import LOCATION_LABELS

# In the order in which two faults of one case happen: what turns slices into bytes comes last.
HARMFUL: dict[str, Kind] = geometry_faults.KINDS | tag_faults.KINDS | pixel_faults.KINDS | file_faults.KINDS
SHRUGS: dict[str, Kind] = shrugs.KINDS | shrug_series.KINDS
LOCKING = ("locked_folder", "locked_files")

PAIRS = 0.4
"""So many of the harmful cases have a second fault."""

SHARE_SCORED = 0.95
"""So many of the negative studies with something to shrug at have to stay `scored`."""

MOST_BLEED = 4
"""Positive studies show blood in so many slices at most: what loses two of them can turn the result."""

_FIRST_SEED = {True: 4000, False: 6000}
_MOST_TRIED = 60


@dataclass(frozen=True)
class Case:
    """One study with its faults, by name.

    Attributes:
        name: `h` or `s` and a number, which repeats the case with the same seed.
        scan: number of the study, from 0.
    """

    name: str
    scan: int
    kinds: tuple[str, ...]
    words: str
    exit_status: int | None
    verdict: Verdict

    @property
    def harmful(self) -> bool:
        """A positive study with faults; else a negative one with something to shrug at."""
        return self.name.startswith("h")

    @property
    def failed(self) -> bool:
        """Harmful: a silent negative, or no proper end. Shrugged at: not scored."""
        return self.verdict.failed or (not self.harmful and self.verdict.outcome not in (SCORED, FLAGGED))


def plan(seed: int, count: int, *, harmful: bool, without: Sequence[str] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """Names of the cases and the kinds of their faults, every kind as often as another.

    Args:
        without: kinds that cannot be made here; a case that would have one is left out.
    """
    kinds = list(HARMFUL if harmful else SHRUGS)
    cases = []
    for number in range(count):
        chosen = {number % len(kinds)}
        rng = _stream(seed, harmful, number, 0)
        if harmful and rng.random() < PAIRS:
            chosen.add(int(rng.integers(len(kinds))))
        names = tuple(kinds[i] for i in sorted(chosen))
        if not set(names) & set(without):
            cases.append((f"{'h' if harmful else 's'}{number}", names))
    return cases


def run_case(bundle: Bundle, scans: Sequence[Scan], seed: int, name: str, kinds: Sequence[str]) -> Case:
    """Make the case's delivery, score and judge it."""
    harmful, number = name.startswith("h"), int(name[1:])
    place = number % len(scans)
    delivery, words = make_delivery(scans[place], _stream(seed, harmful, number, 1), kinds, harmful=harmful)
    outcome = run_delivery(bundle, delivery)
    verdict = judge(delivery, outcome, positive=harmful)
    return Case(name, place, tuple(kinds), words, outcome.exit_status, verdict)


def make_delivery(scan: Scan, rng: Rng, kinds: Sequence[str], *, harmful: bool) -> tuple[Delivery, str]:
    """The study with its faults, and the words that say what was done."""
    delivery = deliver(scan, seed=int(rng.integers(1 << 31)))
    words = []
    for kind in kinds:
        if len(delivery.slices()) < 4:
            words.append(f"{kind}: nothing left to do it to")
            continue
        with pydicom.config.disable_value_validation():
            words.append(f"{kind}: {(HARMFUL if harmful else SHRUGS)[kind](delivery, rng)}".removesuffix(": "))
    return delivery, "; ".join(words)


def find_scans(bundle: Bundle, count: int, *, positive: bool, progress: Progress = silent) -> list[Scan]:
    """Phantoms that are a whole head and that the untouched run scores as they are, the locations in turn.

    Raises:
        ConfigError: the bundle's model tells too few phantoms.
    """
    scans: list[Scan] = []
    with progress("phantoms", count) as step:
        for tried in range(_MOST_TRIED):
            location = LOCATION_LABELS[len(scans) % len(LOCATION_LABELS)] if positive else None
            if len(plan_study(_FIRST_SEED[positive] + tried, location).positive) > MOST_BLEED:
                continue
            scan = phantom_scan(_FIRST_SEED[positive] + tried, location, f"{len(scans) + 1:04d}")
            if not covers_head(scan, list(range(len(scan.datasets)))):
                continue
            delivery = deliver(scan)
            outcome = run_delivery(bundle, delivery)
            if not outcome.studies or outcome.studies[0]["flagged"] != str(int(positive)):
                continue
            by_path = {f.name: f.index for f in delivery.files}
            scored = {by_path[r["path"]] for r in outcome.slices if r["status"] == "scored"}
            scans.append(replace(scan, scored=frozenset(i for i in scored if i is not None)))
            step(1)
            if len(scans) == count:
                return scans
    what = "positive" if positive else "negative"
    raise ConfigError(f"of {_MOST_TRIED} {what} phantoms the model tells {len(scans)} right; {count} are needed")


def run_cases(
    bundle: Bundle, scans: Sequence[Scan], seed: int, cases: Sequence[tuple[str, tuple[str, ...]]], progress: Progress
) -> Iterator[Case]:
    """The cases one after the other."""
    with progress("cases", len(cases)) as step:
        for name, kinds in cases:
            yield run_case(bundle, scans, seed, name, kinds)
            step(1)


def _stream(seed: int, harmful: bool, number: int, purpose: int) -> Rng:
    return np.random.default_rng([seed, int(harmful), number, purpose])

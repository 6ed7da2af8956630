"""What a run of `dtvit-edge bench` does, and how thoroughly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.measure.statistics import least_samples
from dtvit_edge.errors import ConfigError
from dtvit_edge.selftest import BATCHES
from evaluation.limits import Limits


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        phantoms: the labelled set where none is given; its seeds are neither the demo model's nor its test's.
        slices: for the accuracy, at most; intervals: False spares the bootstraps, which over few patients say nothing.
        studies: phantom studies to score from folders, where none is given.
        selftest: batch sizes of the golden slices.
        least, most: samples of a latency; between them `seconds` of one contender decide.
        batches: of the throughput, each for `seconds_a_batch` and at least `LEAST_SAMPLES` samples.
        cold_starts: processes a configuration; rounds: of whole runs from a folder.
        quick: leave out what takes minutes and says little; whole runs and cold starts of the fastest
            configuration alone.
        workers: threads that read ahead, each number a row for the fastest configuration from folder to result.
    """

    phantoms: str
    slices: int
    studies: int
    selftest: tuple[int, ...]
    least: int
    most: int
    seconds: float
    batches: tuple[int, ...]
    seconds_a_batch: float
    cold_starts: int
    rounds: int
    workers: tuple[int, ...]
    intervals: bool = True
    quick: bool = False


FULL = Effort(
    phantoms="phantoms:90@8000000",
    slices=1000,
    studies=3,
    selftest=BATCHES,
    least=least_samples(0.90),
    most=least_samples(0.99),
    seconds=20.0,
    batches=(1, 2, 4, 8, 16),
    seconds_a_batch=1.5,
    cold_starts=3,
    rounds=5,
    workers=(1, 2, 4, 8),
)
QUICK = Effort(
    phantoms="phantoms:4@8000000",
    slices=24,
    studies=2,
    selftest=(1,),
    least=least_samples(0.50),
    most=least_samples(0.90),
    seconds=2.0,
    batches=(1, 8),
    seconds_a_batch=0.3,
    cold_starts=1,
    rounds=1,
    workers=(),
    intervals=False,
    quick=True,
)
LEAST_SAMPLES = 2


@dataclass(frozen=True)
class Settings:
    """Everything that was chosen.

    Attributes:
        weights: checkpoints; each belongs to the bundle that was made from it.
        slices: labelled CSVs, study folders or `phantoms:STUDIES@SEED`, for the accuracy; none takes
            the effort's phantoms.
        studies: folders that are scored from end to end; none writes phantoms.
        backends, precisions: only these; none takes every one that is here.
        hints: further inference precisions of a backend that has such a setting.
        calibration_slices: sources of the slices that gave the bundles' int8 ranges, for peers that quantise.
        peers: names of `peers.MODELS`, `peers.PREPROCESSING` and `peers.QUANTISERS`: what the user would take instead.
        bedside: time `serve` as well.
        duration_s: of the sustained run; 0 leaves it out.
        command: the line that repeats the run, without a folder that could carry a name.
    """

    effort: Effort = FULL
    weights: tuple[Path, ...] = ()
    slices: tuple[str, ...] = ()
    calibration_slices: tuple[str, ...] = ()
    studies: tuple[Path, ...] = ()
    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    threads: int | None = None
    peers: tuple[str, ...] = ()
    layers: bool = False
    bedside: bool = False
    duration_s: float = 0.0
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    command: str = "dtvit-edge bench"

    def __post_init__(self) -> None:
        if self.duration_s and self.duration_s < 10:
            raise ConfigError(f"--duration is {self.duration_s:g} s; less than 10 shows no drift")

    @property
    def gate_limits(self) -> Limits:
        """What the gate asks: a quick look, whose slices prove too little anyway, leaves out the shifts."""
        return replace(self.limits, shift_slices=0) if self.effort.quick else self.limits

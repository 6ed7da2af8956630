"""A run's records as the report reads them: by bundle, with what passed and what was fastest."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure.statistics import Ratio, ratio, two_modes
from benchmarks.results import names
from benchmarks.results.names import key_of
from dtvit_edge.bundle.verdicts import INCONCLUSIVE, NOT_GATED, PASSED
from dtvit_edge.errors import ConfigError
from evaluation.limits import options_off
from evaluation.records import Record, read

# Cores that other work may use before a reader is told.
BUSY_CORES = 0.15
# References by the names that records have for them.
_REFERENCES = {"onnxruntime fp32": "ONNX Runtime fp32", "PyTorch eager fp32": "PyTorch"}
_BUSY, _LONGER = "other work ran meanwhile", "times are longer than on a quiet machine"


@dataclass(frozen=True)
class Speed:
    """How many times as fast one thing is as another, with its 95 % interval where one was drawn."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        between = "" if self.low is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f} times as fast{between}"


@dataclass(frozen=True)
class BatchRate:
    """What a configuration did at a batch size.

    Attributes:
        joules: a slice, of the sensor that counted the most; None without one.
    """

    slices_a_second: float
    joules: float | None


@dataclass(frozen=True)
class RunView:
    """One bundle's records, by what they measure; the accuracy's is always there.

    Attributes:
        place: among the runs of this bundle, from 0.
    """

    records: dict[str, Record]
    place: int = 0

    @property
    def accuracy(self) -> Record:
        """The first record of every bundle."""
        return self.records[names.ACCURACY]

    @property
    def name(self) -> str:
        """The bundle's."""
        return str(self.accuracy.options["bundle"])

    @property
    def command(self) -> str:
        """The line that repeats its run."""
        return str(self.accuracy.options["command"])

    @property
    def slug(self) -> str:
        """The name as a part of a file's name, with a number where the bundle was run more than once."""
        return re.sub(r"[^\w.-]+", "_", self.name) + (f"-{self.place + 1}" if self.place else "")

    @property
    def encoder(self) -> str:
        """By timm's name."""
        return str(self.accuracy.options["encoder"])

    @property
    def threads(self) -> int | None:
        """What CPU backends and peers computed with; None left it to them."""
        chosen: int | None = self.accuracy.options["threads"]
        return chosen

    @property
    def untrained(self) -> bool:
        """Its answers mean nothing, only its speed."""
        return bool(self.accuracy.options["training"] == "untrained")

    @property
    def title(self) -> str:
        """Name, encoder and what it was trained on."""
        options = self.accuracy.options
        return f"{options['bundle']} ({options['encoder']}, {options['training']})"

    @property
    def configurations(self) -> list[str]:
        """Every configuration whose accuracy is known."""
        return list(self.accuracy.options["configurations"])

    @property
    def passed(self) -> list[str]:
        """The configurations that were timed, the fastest first."""
        latency = self.records.get(names.LATENCY)
        return sorted((name for name in self.configurations if latency and name in latency.samples), key=self.median_ms)

    @property
    def slices(self) -> int:
        """How many slices the accuracy is about."""
        return len(self.accuracy.samples[names.ICH_LABELS])

    @property
    def left_out(self) -> dict[str, str]:
        """Why a configuration has no latency, by its name."""
        return dict(self.accuracy.options["left_out"])

    def model_bytes(self, configuration: str) -> float | None:
        """Size of the ONNX file that a configuration runs; None where it runs an engine, or memory was not measured."""
        described, memory = self.accuracy.options["configurations"][configuration], self.records.get(names.MEMORY)
        if memory is None or "sha256" not in described:
            return None
        return memory.summary.get(names.file_size_key(described["precision"]))

    @property
    def busy(self) -> str | None:
        """That other work ran during the latency, in words; None where too little to matter.

        Where the kernel did not tell what others used, the load before decides, which holds this process's own.
        """
        options = self.records[names.LATENCY].options if names.LATENCY in self.records else {}
        others = options.get(names.OTHER_WORK)
        if others is not None:
            return f"{_BUSY}, on {others:.1f} cores: {_LONGER}" if others > BUSY_CORES else None
        facts = options.get("before", {"observed": {}})["observed"]
        load, cores = facts.get("load average, one minute"), facts.get("cores of this process", "")
        total = re.search(r"of (\d+)", cores)
        if load is None or total is None or float(load) <= int(total[1]):
            return None
        return f"{_BUSY} (load {load} on {total[1]} cores): {_LONGER}"

    def precision(self, configuration: str) -> str:
        """Of a configuration; a hint makes it another one to a reader."""
        described = self.accuracy.options["configurations"][configuration]
        hint = configuration.partition(", rest ")[2]
        return str(described["precision"]) + (f", rest {hint}" if hint else "")

    def precisions(self) -> dict[str, list[str]]:
        """Configurations by precision, the fastest first, those that did not pass last."""
        order = [*self.passed, *(name for name in self.configurations if name not in self.passed)]
        by_precision: dict[str, list[str]] = {}
        for configuration in order:
            by_precision.setdefault(self.precision(configuration), []).append(configuration)
        return by_precision

    def best(self) -> list[str]:
        """The fastest configuration of every precision that passed, the fastest of all first."""
        return [configurations[0] for configurations in self.precisions().values() if configurations[0] in self.passed]

    def median_ms(self, contender: str) -> float:
        """Of one slice through a contender or peer."""
        return statistics.median(self.records[names.LATENCY].samples[contender])

    def ratio(self, slow: str, fast: str) -> Ratio:
        """How many times as fast the second is, round by round."""
        samples = self.records[names.LATENCY].samples
        return ratio(samples[slow], samples[fast], paired=True)

    def times_as_fast(self, what: str, contender: str, other: str) -> Speed | None:
        """How many times as fast as another contender, as a record says it; None where it does not."""
        value, low, high = (
            self.figure(what, contender, f"times as fast as {other}{end}") for end in ("", ", low", ", high")
        )
        return None if value is None else Speed(value, low, high)

    def peers(self) -> list[str]:
        """Models of peers that were timed as well."""
        latency = self.records.get(names.LATENCY)
        known = {*self.configurations, names.NULL_BACKEND}
        return [name for name in names.by_contender(latency.samples) if name not in known] if latency else []

    def figure(self, what: str, name: str, figure: str) -> float | None:
        """A figure of a record's summary, `NAME: FIGURE`; None where it was not measured."""
        record = self.records.get(what)
        return record.summary.get(key_of(name, figure)) if record else None

    @property
    def reference(self) -> str:
        """What the configurations were compared with, as people say it."""
        name = str(self.accuracy.options["reference"])
        return _REFERENCES.get(name, name)

    @property
    def limits_off(self) -> tuple[str, ...]:
        """The options by which limits of the gate were switched off."""
        return options_off(self.accuracy.options.get("limits", {}))

    @property
    def gated(self) -> bool:
        """False where a limit of the gate was switched off, so that its figures prove nothing."""
        return not self.limits_off

    def verdict(self, configuration: str) -> str:
        """The gate's; with a limit switched off nothing but a failure is one. Empty for a peer."""
        said = str(self.accuracy.options["verdicts"].get(configuration, ""))
        return NOT_GATED if said in (PASSED, INCONCLUSIVE) and not self.gated else said

    def inconclusive(self, configuration: str) -> bool:
        """True where too few slices were judged."""
        return self.verdict(configuration) == INCONCLUSIVE

    def modes(self, contender: str) -> tuple[float, float] | None:
        """The two times, in milliseconds, that one slice took by turns; None where the samples have one middle."""
        return two_modes(self.records[names.LATENCY].samples[contender])


def batch_rates(record: Record) -> dict[str, dict[int, BatchRate]]:
    """By configuration and batch size what a record of the throughput says."""
    rates: dict[str, dict[int, BatchRate]] = {}
    for configuration, summary in names.by_contender(record.summary).items():
        for batch, figures in names.by_batch(names.by_contender(summary)).items():
            joules = [value for name, value in figures.items() if name.endswith(names.JOULES_A_SLICE)]
            rate = BatchRate(figures[names.SLICES_PER_SECOND], max(joules, default=None))
            rates.setdefault(configuration, {})[batch] = rate
    return rates


def group_by_run(shown: Sequence[RunView]) -> list[list[RunView]]:
    """The bundles by the run that measured them, in order: only those of one run are compared."""
    grouped: dict[str, list[RunView]] = {}
    for view in shown:
        grouped.setdefault(view.command, []).append(view)
    return list(grouped.values())


def run_records(path: Path) -> list[Record]:
    """The records of runs of `bench` among those of a file, or of a run's folder.

    Raises:
        ConfigError: there is none.
    """
    file = path / names.RECORDS_FILE if path.is_dir() else path
    records = [record for record in read(file) if record.what.startswith(names.PREFIX)] if file.is_file() else []
    if not records:
        raise ConfigError(f"{path}: no records of a run of `dtvit-edge bench`")
    return records


def run_views(records: Sequence[Record]) -> list[RunView]:
    """The bundles of a run, in the order in which they were measured; of several runs by one command the last."""
    bundles: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        key = record.options["bundle"], record.options["command"]
        if record.what == names.ACCURACY:  # the first record of a run: whatever is there is an earlier one's
            bundles.pop(key, None)
        bundles.setdefault(key, {})[record.what] = record
    places: Counter[str] = Counter()
    shown = []
    for (bundle, _), bundle_records in bundles.items():
        if names.ACCURACY in bundle_records:
            shown.append(RunView(bundle_records, places[bundle]))
            places[bundle] += 1
    return shown

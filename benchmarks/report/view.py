"""A run's records as the report reads them: by bundle, with what passed and what was fastest."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure.statistics import Ratio, ratio
from benchmarks.results import names
from benchmarks.results.names import part
from evaluation.gate import INCONCLUSIVE
from evaluation.records import Record

# Cores that other work may use before a reader is told.
MUCH = 0.15
_BUSY, _LONGER = "other work ran meanwhile", "times are longer than on a quiet machine"


@dataclass(frozen=True)
class View:
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
    def untrained(self) -> bool:
        """Its answers mean nothing, only its speed."""
        return bool(self.accuracy.options["training"] == "untrained")

    @property
    def title(self) -> str:
        """Name, encoder and what it was trained on."""
        options = self.accuracy.options
        return f"{options['bundle']} ({options['encoder']}, {options['training']})"

    @property
    def sides(self) -> list[str]:
        """Every side that was judged."""
        return list(self.accuracy.options["sides"])

    @property
    def passed(self) -> list[str]:
        """The sides that were timed, the fastest first."""
        latency = self.records.get(names.LATENCY)
        return sorted((s for s in self.sides if latency and s in latency.samples), key=self.median_ms)

    @property
    def slices(self) -> int:
        """That judged."""
        return len(self.accuracy.samples[names.LABELS])

    @property
    def left_out(self) -> dict[str, str]:
        """Why a side has no latency, by its name."""
        return dict(self.accuracy.options["left_out"])

    def model_bytes(self, side: str) -> float | None:
        """Size of the ONNX file that a side runs; None where it runs an engine, or memory was not measured."""
        described, memory = self.accuracy.options["sides"][side], self.records.get(names.MEMORY)
        return memory.summary.get(names.file(described["precision"])) if memory and "sha256" in described else None

    @property
    def busy(self) -> str | None:
        """That other work ran beside the latency, in words; None where too little to matter.

        Where the kernel did not tell what others used, the load before decides, which holds this process's own.
        """
        options = self.records[names.LATENCY].options if names.LATENCY in self.records else {}
        others = options.get(names.OTHERS)
        if others is not None:
            return f"{_BUSY}, on {others:.1f} cores: {_LONGER}" if others > MUCH else None
        facts = options.get("before", {"facts": {}})["facts"]
        load, cores = facts.get("load average, one minute"), facts.get("cores of this process", "")
        found = re.search(r"of (\d+)", cores)
        if load is None or found is None or float(load) <= int(found[1]):
            return None
        return f"{_BUSY} (load {load} on {found[1]} cores): {_LONGER}"

    def precision(self, side: str) -> str:
        """Of a side; a hint makes it another one to a reader."""
        described = self.accuracy.options["sides"][side]
        hint = side.partition(", rest ")[2]
        return str(described["precision"]) + (f", rest {hint}" if hint else "")

    def precisions(self) -> dict[str, list[str]]:
        """Sides by precision, the fastest first, those that did not pass last."""
        order = [*self.passed, *(side for side in self.sides if side not in self.passed)]
        found: dict[str, list[str]] = {}
        for side in order:
            found.setdefault(self.precision(side), []).append(side)
        return found

    def best(self) -> list[str]:
        """The fastest side of every precision that passed, the fastest of all first."""
        return [own[0] for own in self.precisions().values() if own[0] in self.passed]

    def median_ms(self, side: str) -> float:
        """Of one slice through a side or peer."""
        return statistics.median(self.records[names.LATENCY].samples[side])

    def ratio(self, slow: str, fast: str) -> Ratio:
        """How many times as fast the second is, round by round."""
        samples = self.records[names.LATENCY].samples
        return ratio(samples[slow], samples[fast], paired=True)

    def peers(self) -> list[str]:
        """Models that were timed beside the sides."""
        latency = self.records.get(names.LATENCY)
        known = {*self.sides, names.NULL}
        return [s for s in latency.samples if s not in known and ": device " not in s] if latency else []

    def figure(self, what: str, name: str, figure: str) -> float | None:
        """A figure of a record's summary, `NAME: FIGURE`; None where it was not measured."""
        record = self.records.get(what)
        return record.summary.get(part(name, figure)) if record else None

    def inconclusive(self, side: str) -> bool:
        """True where too few slices judged it."""
        return bool(self.accuracy.options["verdicts"][side] == INCONCLUSIVE)


def runs(shown: Sequence[View]) -> list[list[View]]:
    """The bundles by the run that measured them, in order: only those of one run stand beside each other."""
    found: dict[str, list[View]] = {}
    for view in shown:
        found.setdefault(view.command, []).append(view)
    return list(found.values())


def views(records: Sequence[Record]) -> list[View]:
    """The bundles of a run, in the order in which they were measured; of several runs by one command the last."""
    found: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        key = record.options["bundle"], record.options["command"]
        if record.what == names.ACCURACY:  # the first record of a run: whatever is there is an earlier one's
            found.pop(key, None)
        found.setdefault(key, {})[record.what] = record
    places: Counter[str] = Counter()
    shown = []
    for (bundle, _), own in found.items():
        if names.ACCURACY in own:
            shown.append(View(own, places[bundle]))
            places[bundle] += 1
    return shown

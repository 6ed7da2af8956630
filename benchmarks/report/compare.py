"""Two runs side by side: what changed, and whether it is more than noise.

Times are compared by the ratio of their medians with a bootstrap interval (`statistics.ratio`), apart, since the runs
did not alternate, and each in units of the yardstick that ran with it, so that a machine which is slower today is not
taken for a slower program; a change is one whose whole interval lies beyond `statistics.MARGIN`. Where the yardstick
itself changed by more than `STEADY_YARDSTICK`, the two runs had not the same machine, and a change must be larger than
what that could explain. Accuracy has no noise: the same slices through the same bytes give the same figures, so that
every difference is said.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure.statistics import MARGIN, Ratio, ratio
from benchmarks.measure.throughput import SAMPLE_S
from benchmarks.measure.yardstick import WORKLOAD, yardstick_units
from benchmarks.report.run_view import run_records
from benchmarks.results import names
from dtvit_edge.cli import render
from dtvit_edge.cli.units import size
from dtvit_edge.errors import ConfigError
from evaluation.records import Record

TIMED_MEASUREMENTS = (
    names.LATENCY,
    names.STAGES,
    names.THROUGHPUT,
    names.END_TO_END,
    names.COLD_START,
    names.MEMORY,
    names.SUSTAINED,
)
# Figures of accuracy that are compared, each with whether a larger one is better.
ACCURACY_FIGURES = {"agreement": True, "location_agreement": True, "ich_recall": True, "ich_specificity": True,
                    "ich_auc": True, "selftest_worst": False}  # fmt: skip
# Of samples that lasted less, all come from one moment of the machine, whatever their interval says: two short runs
# on a core that nothing else used differed by 15 % in stages of 0.2 ms, and by 6 % in a third of a second's rates.
# A batch size's rates follow each other without a break, so that two such runs differed by 7 % in a second and a half.
LEAST_S = 1.0
LEAST_STRETCH_S = 3.0
# Of the yardstick: within this much a model follows it. Beyond, a neighbour on the same core slowed models by up to the
# fourth power of what it slowed the yardstick by (1.14 times, models 1.38 to 1.63 times, on a core that showed no other
# work), so that an interval is widened by all that lies between.
STEADY_YARDSTICK, WORST_POWER = 0.03, 4
# Smaller than this is rounding in another version of a library, not another answer.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Change:
    """One measured thing in both runs; the ratio is after over before, above 1 where it got slower or larger.

    Attributes:
        machine: the ratio of the yardstick, which is divided out; None where it did not run in both.
    """

    bundle: str
    what: str
    contender: str
    before: float
    after: float
    unit: str
    ratio: Ratio
    machine: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What two runs say.

    Attributes:
        changes: of everything timed; accuracy: (bundle, configuration, figure, before, after) that differ.
        differences: of options, environment and digests, by name, (before, after).
        only: what one of them alone has; worse: in words, what got slower or less right.
    """

    changes: tuple[Change, ...]
    accuracy: tuple[tuple[str, str, str, float, float], ...]
    differences: dict[str, tuple[str, str]]
    only: tuple[str, ...]
    worse: tuple[str, ...]


def compare(before: Path, after: Path, *, seed: int = 0) -> Comparison:
    """Compare two runs of `bench`, by bundle and measurement; of equals the last.

    Args:
        before, after: folders of runs, or their records.

    Raises:
        ConfigError: no records, or no measurement that both have.
    """
    a, b = ({(r.options["bundle"], r.what): r for r in run_records(path)} for path in (before, after))
    shared = [key for key in a if key in b]
    if not shared:
        raise ConfigError(f"{before.name} and {after.name} have no measurement of a bundle in common")
    changes = tuple(change for key in shared for change in _changes(a[key], b[key], seed))
    accuracy = tuple(entry for key in shared if key[1] == names.ACCURACY for entry in _figures(a[key], b[key]))
    differences: dict[str, tuple[str, str]] = {}
    for key in shared:
        differences |= _differences(a[key], b[key])
    only = [f"{which}: {what} of {bundle}" for which, run, other in (("before", a, b), ("after", b, a))
            for bundle, what in run if (bundle, what) not in other]  # fmt: skip
    worse = [f"{c.contender} ({c.what})" for c in changes if c.ratio.verdict == "slower"]
    worse += [
        f"{contender}: {figure}" for _, contender, figure, x, y in accuracy if (y < x) == ACCURACY_FIGURES[figure]
    ]
    return Comparison(changes, accuracy, differences, tuple(only), tuple(worse))


def show_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """Print a comparison."""
    if as_json:
        data = asdict(comparison)
        for change, entry in zip(data["changes"], comparison.changes, strict=True):
            change["verdict"] = entry.ratio.verdict
            if not math.isfinite(entry.ratio.high):
                change["ratio"]["high"] = None  # JSON has no infinity
        render.echo_lines(json.dumps(data, indent=1, allow_nan=False))
        return
    for name, (x, y) in comparison.differences.items():
        render.echo(f"{name}: {x} -> {y}")
    for line in comparison.only:
        render.echo(f"only {line}")
    rows = [
        (
            c.what.removeprefix(names.PREFIX),
            c.contender,
            _quantity(c.before, c.unit),
            _quantity(c.after, c.unit),
            "" if c.machine is None else f"{c.machine:.3f}",
            str(c.ratio),
            c.ratio.verdict,
        )
        for c in comparison.changes
    ]
    render.rows(("measured", "contender", "before", "after", "the machine", "after / before", "verdict"), rows)
    if comparison.accuracy:
        cells = [(contender, figure, f"{x:.6g}", f"{y:.6g}") for _, contender, figure, x, y in comparison.accuracy]
        render.rows(("contender", "figure", "before", "after"), cells)
    else:
        render.echo("accuracy: the same figures")
    if any(c.machine is not None for c in comparison.changes):
        render.echo(f"the machine: what {WORKLOAD} took after, over before; it is divided out, and widens the interval "
                   f"where it is more than {STEADY_YARDSTICK:.0%} from 1")  # fmt: skip
    render.echo(f"a change is one whose whole 95 % interval lies more than {MARGIN:.0%} from 1")


def _quantity(value: float, unit: str) -> str:
    """A value as people say it: `129 MiB`, `1.908 ms`."""
    return size(value) if unit == names.BYTES else f"{value:.4g} {unit}"


def _changes(a: Record, b: Record, seed: int) -> Iterator[Change]:
    if a.what not in TIMED_MEASUREMENTS:
        return
    for contender, samples in a.samples.items():
        if contender == names.NULL_BACKEND or contender not in b.samples:
            continue
        first, second = _costs(a, contender), _costs(b, contender)
        taken = None if a.unit == names.BYTES else yardstick_units((b, contender), (a, contender))
        change_ratio = ratio(second, first, paired=False, seed=seed, units=taken)
        machine = None if taken is None else statistics.median(taken[0]) / statistics.median(taken[1])
        if machine is not None and abs(machine - 1) > STEADY_YARDSTICK:
            change_ratio = _widened(change_ratio.value, ratio(second, first, paired=False, seed=seed), machine)
        least_s = LEAST_STRETCH_S if a.what == names.THROUGHPUT else LEAST_S
        if min(_seconds(a.unit, samples), _seconds(b.unit, b.samples[contender])) < least_s:
            change_ratio = Ratio(change_ratio.value)
        middle = (statistics.median(samples), statistics.median(b.samples[contender]))
        yield Change(a.options["bundle"], a.what, contender, *middle, a.unit, change_ratio, machine)


def _widened(value: float, raw: Ratio, machine: float) -> Ratio:
    """A ratio with all that a machine which changed so much could explain."""
    most = machine**WORST_POWER
    return Ratio(value, min(raw.low, raw.low / most), max(raw.high, raw.high / most))


def _costs(record: Record, contender: str) -> list[float]:
    """Its samples so that more is worse: of a rate what one takes."""
    samples = record.samples[contender]
    return [1 / rate for rate in samples] if record.unit == names.SLICES_PER_SECOND else samples


def _seconds(unit: str, samples: Sequence[float]) -> float:
    """How long the samples lasted, at least; what is no time at all lasts for ever."""
    lasting = {
        names.MS: sum(samples) / 1e3,
        names.SECONDS: sum(samples),
        names.SLICES_PER_SECOND: len(samples) * SAMPLE_S,
    }
    return lasting.get(unit, math.inf)


def _figures(a: Record, b: Record) -> Iterator[tuple[str, str, str, float, float]]:
    others = names.by_contender(b.summary)
    for contender, figures in names.by_contender(a.summary).items():
        for figure, value in figures.items():
            other = others.get(contender, {}).get(figure)
            if figure in ACCURACY_FIGURES and other is not None and abs(other - value) > ROUNDING:
                yield a.options["bundle"], contender, figure, value, other


def _differences(a: Record, b: Record) -> dict[str, tuple[str, str]]:
    """What the two were made of, where it differs: environment, digests and what was chosen."""
    chosen = ("threads", "data", "studies", "limits", "configurations", "left_out", "training", "encoder")
    pairs: dict[str, tuple[Any, Any]] = {}
    for kind in ("machine", "packages"):
        pairs |= _pairs(a.environment.get(kind, {}), b.environment.get(kind, {}))
    pairs |= _pairs(a.digests, b.digests, "digest of ")
    pairs |= _pairs({k: a.options.get(k) for k in chosen}, {k: b.options.get(k) for k in chosen})
    pairs |= _pairs(a.options.get("before", {}).get("observed", {}), b.options.get("before", {}).get("observed", {}))
    return {name: (str(x), str(y)) for name, (x, y) in pairs.items()}


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    return {
        f"{prefix}{name}": (a.get(name, "absent"), b.get(name, "absent"))
        for name in {**a, **b}
        if a.get(name, "absent") != b.get(name, "absent")
    }

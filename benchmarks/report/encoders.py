"""Which encoder: the bundles of one run compared, each by its fastest configuration.

Bundles are measured one after the other; the ratio of two is taken in units of the yardstick that ran with each, so
that an hour in which the machine was slower is not held against the model that was measured in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure.statistics import Ratio, ratio
from benchmarks.measure.yardstick import WORKLOAD, yardstick_units
from benchmarks.report.run_view import RunView
from benchmarks.report.tables import EMPTY_CELL
from benchmarks.report.verdicts import MIB
from benchmarks.results import names
from benchmarks.results.names import key_of
from dtvit_edge.bundle.verdicts import NOT_GATED
from evaluation.records import interval_text
from evaluation.tables import Table

HEADING = "In one minute: which model"
_AUC = "ich_auc"


def fastest_first(views: Sequence[RunView]) -> list[RunView]:
    """The bundles of which a configuration was timed, the one with the fastest configuration first."""
    return sorted((view for view in views if view.passed), key=lambda view: view.median_ms(view.passed[0]))


def times_as_long(view: RunView, other: RunView) -> Ratio:
    """One slice through the fastest configuration of a bundle over the same of another."""
    slow, fast = (v.records[names.LATENCY] for v in (view, other))
    fastest, other_fastest = view.passed[0], other.passed[0]
    taken = yardstick_units((slow, fastest), (fast, other_fastest))
    return ratio(slow.samples[fastest], fast.samples[other_fastest], paired=False, units=taken)


def table(views: Sequence[RunView]) -> Table:
    """A row a bundle: speed, need and what the labels say."""
    order = fastest_first(views)
    rows = []
    for view in order:
        configuration = view.passed[0]
        peak, size = view.figure(names.MEMORY, configuration, "max"), view.model_bytes(configuration)
        rows.append((
            view.title,
            configuration,
            f"{view.median_ms(configuration):.4g}",
            EMPTY_CELL if view is order[0] else str(times_as_long(view, order[0])),
            _printable(view.figure(names.END_TO_END, configuration, f"{names.PER_SLICE}: median"), "{:.4g}"),
            _printable(view.figure(names.END_TO_END, configuration, "studies a minute"), "{:.3g}"),
            _printable(view.figure(names.COLD_START, configuration, "median"), "{:.2f}"),
            _printable(peak and peak / MIB, "{:.0f}"),
            _printable(size and size / MIB, "{:.1f}"),
            _printable(view.figure(names.ACCURACY, configuration, "agreement"), "{:.2%}"),
            _labelled(view, _AUC) or EMPTY_CELL,
            _labelled(view, "location_accuracy") or EMPTY_CELL,
        ))  # fmt: skip
    columns = ("model", "its fastest configuration", "one slice, ms", "times as long as the first",
               "folder to result, ms a slice", "studies a minute", "cold start, s", "peak memory, MiB",
               "model file, MiB", "decides as the reference", "AUC by the labels", "location accuracy")  # fmt: skip
    notes = [f"times as long: the medians, each in units of what {WORKLOAD} took meanwhile"]
    notes += [f"{view.title}: its answers mean nothing, only its speed" for view in order if view.untrained]
    notes += [f"{view.title}: {NOT_GATED}, limits were switched off" for view in order if not view.gated]
    return Table(
        "encoders", "Which model: every bundle by its fastest configuration", columns, tuple(rows), tuple(notes)
    )


def sentences(views: Sequence[RunView]) -> list[str]:
    """The same in words."""
    first, *others = fastest_first(views)
    configuration = first.passed[0]
    fastest_ms = first.median_ms(configuration)
    lines = [f"Fastest here: {first.title}, {fastest_ms:.3g} ms for one slice in the model ({configuration})."]
    lines += [
        f"{view.title} takes {times_as_long(view, first)} times as long ({view.passed[0]}, "
        f"{view.median_ms(view.passed[0]):.3g} ms)."
        for view in others
    ]
    ungated = [view.name for view in (first, *others) if not view.gated]
    unsteady = [view.name for view in (first, *others) if view.modes(view.passed[0])]
    labelled = [(view.name, text, *_interval(view)) for view in (first, *others) if (text := _labelled(view, _AUC))]
    if len(labelled) > 1:
        best, _, _, least, _ = max(labelled, key=lambda one: one[2])
        aucs = "; ".join(f"{name} {text}" for name, text, *_ in labelled)
        lines.append(f"AUC by the labels ({first.accuracy.options['data']}): {aucs}.")
        if all(high >= least for *_, high in labelled):
            advice = "." if unsteady or ungated else ", so take the fastest."
            lines.append(f"The intervals overlap: these slices show no difference between them{advice}")
        else:
            lines.append(f"By these labels {best} is the best; faster is not better there.")
    if unsteady:
        lines.append(f"Times with two modes, from which nothing follows: {', '.join(unsteady)}.")
    if ungated:
        lines.append(f"Not gated, so that nothing says how faithful these files are: {', '.join(ungated)}.")
    untrained = [view.name for view in (first, *others) if view.untrained]
    if untrained:
        lines.append(f"Never trained, so that only their speed means anything: {', '.join(untrained)}.")
    return lines


def _labelled(view: RunView, figure: str) -> str | None:
    """A figure against the labels; None for answers that mean nothing."""
    return None if view.untrained else interval_text(view.accuracy.summary, key_of(view.passed[0], figure))


def _interval(view: RunView) -> tuple[float, float, float]:
    """AUC of the fastest configuration, and its interval; the value alone where there is none."""
    value, low, high = (view.figure(names.ACCURACY, view.passed[0], f"{_AUC}{end}") for end in ("", "_low", "_high"))
    assert value is not None
    return value, value if low is None else low, value if high is None else high


def _printable(value: float | None, form: str) -> str:
    return EMPTY_CELL if value is None else form.format(value)

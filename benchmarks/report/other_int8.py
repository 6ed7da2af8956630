"""The table of int8 by other tools beside the bundle's own."""

from __future__ import annotations

import statistics

from benchmarks.measure.other_int8 import BACKENDS, OURS
from benchmarks.report.run_view import RunView
from benchmarks.results import names
from benchmarks.results.names import key_of
from evaluation.tables import Table

_ABSENT = "–"


def other_int8(view: RunView) -> Table | None:
    """Errors at home and under shifts of the scanner, and the time of one slice, by tool; None where none was asked."""
    record = view.records.get(names.OTHER_INT8)
    if record is None:
        return None
    options = record.options
    rows = []
    for tool, ops in options["ops"].items():
        figures = [_errors(record.summary, tool, where) for where in ("home", "shifts")]
        times = [_ms(record.samples.get(f"{tool} on {backend}")) for backend in BACKENDS]
        rows.append((tool, f"{ops['quantised']} of {ops['ops']}", *figures, *times))
    counts = [
        f"{where}: {record.summary[key]:.0f} slices"
        for where in ("home", "shifts")
        if (key := key_of(OURS, f"{where}, slices")) in record.summary
    ]
    notes = (
        f"all quantise the same fp32 graph by their defaults, with ranges from the same {options['ranges']} slices",
        "errors on ONNX Runtime: flips of the decision, mean |difference of probability|, rms error of the logits; "
        + ", ".join(counts),
        f"inside the timer: {options['inside']}",
        *(f"{tool}: {why}" for tool, why in options["refused"].items()),
    )
    columns = ("tool", "ops in int8", "error at home", "error under shifts", *(f"{name}, ms" for name in BACKENDS))
    return Table("other-int8", f"INT8 by other tools: {view.title}", columns, tuple(rows), notes)


def _errors(summary: dict[str, float], tool: str, where: str) -> str:
    keys = [key_of(tool, f"{where}, {figure}") for figure in ("flips", "mean_difference", "rms")]
    if keys[0] not in summary:
        return _ABSENT
    flips, mean, rms = (summary[key] for key in keys)
    return f"{flips:.0f} flips, {mean:.4f}, rms {rms:.3f}"


def _ms(samples: list[float] | None) -> str:
    return f"{statistics.median(samples):.4g}" if samples else _ABSENT

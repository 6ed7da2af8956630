"""Error against latency: every configuration that was measured, with what the gate said of it."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from benchmarks.report.plots import plain
from benchmarks.report.run_view import RunView
from benchmarks.results import names
from dtvit_edge.bundle.verdicts import FAILED, INCONCLUSIVE, NOT_GATED, PASSED
from evaluation.plots import Cell, Plot

# Errors of less are drawn here: a logarithm has no place for 0, which is fp32 against itself.
LEAST_ERROR = 1e-6
_LOOKS = {PASSED: ("o", "C2"), INCONCLUSIVE: ("^", "C1"), NOT_GATED: ("s", "0.5"), FAILED: ("x", "C3")}
_NO_TIME = 1.12  # where what has no latency is drawn, as a multiple of the slowest


def front(points: Iterable[tuple[str, float, float]]) -> list[str]:
    """Names of those that nobody beats in both time and error, the fastest first.

    Args:
        points: name, milliseconds and error of each.
    """
    kept: list[str] = []
    least = float("inf")
    for name, _, error in sorted(points, key=lambda point: (point[1], point[2])):
        if error < least:
            kept.append(name)
            least = error
    return kept


def error_against_latency(view: RunView) -> Plot | None:
    """The root mean square logit error over milliseconds a slice; None where nothing was timed.

    What failed the gate was not timed: it stands at the right edge, at the height of its error.
    """
    errors = {name: view.figure(names.ACCURACY, name, "rms") for name in view.configurations}
    known = {name: max(error, LEAST_ERROR) for name, error in errors.items() if error is not None}
    ms = {name: view.median_ms(name) for name in view.passed if name in known}
    if not ms:
        return None
    best = front((name, ms[name], known[name]) for name in ms)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([ms[name] for name in best], [known[name] for name in best], color="0.6", linewidth=1, zorder=0)
    edge = _NO_TIME * max(ms.values())
    for name, error in known.items():
        marker, colour = _LOOKS[view.verdict(name)] if view.verdict(name) in _LOOKS else _LOOKS[NOT_GATED]
        axes.plot(ms.get(name, edge), error, marker, color=colour, markersize=8)
        axes.annotate(plain(name), (ms.get(name, edge), error), (5, 5), textcoords="offset points", fontsize=7)
    for verdict, (marker, colour) in _LOOKS.items():
        if any(view.verdict(name) == verdict for name in known):
            axes.plot([], [], marker, color=colour, label=f"gate: {verdict}")
    axes.legend(fontsize=8, loc="best")
    axes.set_yscale("log")
    axes.set_xlim(left=0, right=1.25 * edge)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("ms a slice", fontsize=9)
    axes.set_ylabel("rms logit error", fontsize=9)
    axes.grid(alpha=0.3)
    rows: list[tuple[Cell, ...]] = []
    for name, error in known.items():
        rows.append((name, ms.get(name, ""), error, view.verdict(name), "yes" if name in best else "no"))
    notes = ["line: what no other configuration beats in both time and error"]
    notes += ["what failed the gate was not timed, and stands at the right edge"] if len(ms) < len(known) else []
    return Plot(f"pareto-{view.slug}", f"Error against latency: {view.title}", figure,
                   ("configuration", "ms", "rms", "gate", "unbeaten"), tuple(rows), tuple(notes))  # fmt: skip

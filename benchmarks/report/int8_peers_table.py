"""INT8 by other tools beside this project's, for docs/benchmark.md: errors by set of slices, then times."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure.other_int8 import OURS
from benchmarks.standalone import int8_peers
from evaluation.records import Record, latest

_SETS = (int8_peers.HOME, int8_peers.SHIFTS, int8_peers.OTHER, int8_peers.OTHER_SHIFTS)
_ABSENT = "–"


def int8_peers_table(path: Path) -> str:
    """The newest comparison's two tables, and what it was made of; a sentence where nobody has measured it."""
    errors, times = latest(path, int8_peers.ERRORS), latest(path, int8_peers.TIMES)
    if errors is None or times is None:
        return "\nNot measured yet.\n\n"
    tools = list(errors.options["ops"])
    sets = [name for name in _SETS if f"{OURS}: {name}, rms" in errors.summary]
    counts = [f"{name}, {errors.summary[f'{OURS}: {name}, slices']:.0f}" for name in sets]
    lines = [_row(["rms of the logits' error; mean \\|dp\\|; 99.5 % of \\|dp\\| at most; flips", *counts])]
    lines.append(_row(["---"] * (len(sets) + 1)))
    judged = [f"{tool}{words}" for words in errors.options["judged"] for tool in tools]
    lines += [_row([name, *(_errors(errors.summary, name, where) for where in sets)]) for name in judged]
    ways = times.options["ways"]
    lines += ["\n", _row(["CPU time of one slice, one thread", "ops in int8", *ways])]
    lines.append(_row(["---"] * (2 + len(ways))))
    lines += [_row([tool, _ops(times, tool), *(_time(times, way, tool) for way in ways)]) for tool in tools]
    return "\n" + "".join(lines) + f"\n{_notes(errors)}\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _errors(summary: dict[str, float], tool: str, where: str) -> str:
    if f"{tool}: {where}, rms" not in summary:  # ONNX Runtime refuses the tool's file
        return _ABSENT
    names = ("rms", "mean_difference", "high_difference", "flips")
    rms, mean, high, flips = (summary[f"{tool}: {where}, {name}"] for name in names)
    return f"{rms:.3f}; {mean:.4f}; {high:.3f}; {flips:.0f}"


def _ops(record: Record, tool: str) -> str:
    ops = record.options["ops"][tool]
    return f"{ops['quantised']} of {ops['ops']}"


def _time(record: Record, way: str, tool: str) -> str:
    """Milliseconds, and how many times as fast as our own in the same way to run it."""
    s, name = record.summary, f"{way}: {tool}"
    if f"{name}: ms" not in s:
        return _ABSENT
    ratio = f"; {s[f'{name}: ratio_median']:.2f} times as fast as {OURS}" if tool != OURS else ""
    return f"{s[f'{name}: ms']:.1f} ms{ratio}"


def _notes(record: Record) -> str:
    options = record.options
    versions = ", ".join(f"{name} {version}" for name, version in options["versions"].items() if version)
    left_out = "".join(f"; {name}: {why}" for name, why in options["left_out"].items())
    return (
        f"`{options['command']}`: {options['bundle']} ({options['encoder']}), ranges from the same {options['seen']} "
        f"slices; {versions}{left_out}\n"
    )

"""What the programs of this room have in common: where a record goes, what it says of its run, how a refusal ends."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.results import CPU_RECORDS
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import Decorator
from dtvit_edge.errors import DtvitError
from evaluation.records import Record, append, ratio_summary
from evaluation.repeating import RecordFile, command_line


def record_option(records: Path = CPU_RECORDS) -> Decorator:
    """The option `--out` of a measurement: the file to which its record is appended; it takes `out`."""
    return click.option(
        "--out",
        cls=RecordFile,
        default=records,
        show_default=True,
        help="Append the record to this file.",
    )


def keep(
    out: Path,
    what: str,
    unit: str,
    samples: Mapping[str, list[float]],
    summary: Mapping[str, float],
    digests: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Append the record of the running program, with the line that repeats it; see `Record`."""
    options["command"] = command_line(click.get_current_context(), "python", "-m", _module())
    append(out, Record(what, unit, dict(samples), dict(summary), dict(digests or {}), options))


def compare(samples: Mapping[str, list[float]], baseline: str) -> dict[str, float]:
    """The summary of milliseconds by `KIND: WAY`: medians, and how many times as fast each is as the kind's baseline.

    Prints a line a way. The samples of a kind were taken in turns, one a round.
    """
    summary = {f"{name}: ms": statistics.median(values) for name, values in samples.items()}
    for name, values in samples.items():
        kind, _, way = name.partition(": ")
        if way == baseline:
            continue
        ratios = ratio_summary(samples[f"{kind}: {baseline}"], values)
        summary |= {f"{name}: {figure}": value for figure, value in ratios.items()}
        render.echo(
            f"{name}: {ratios['ratio_median']:.2f} times as fast as {baseline} (quartiles "
            f"{ratios['ratio_lower_quartile']:.2f} to {ratios['ratio_upper_quartile']:.2f}), "
            f"{summary[f'{name}: ms']:.3f} ms"
        )
    return summary


def start(program: click.Command) -> None:
    """Run a program as `python -m` does: what it refuses is said in a sentence, with the error's exit status."""
    try:
        program(prog_name=f"python -m {_module()}")
    except DtvitError as error:
        render.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)


def _module() -> str:
    """Of the running program by its full name, which is not `__main__`."""
    context = click.get_current_context(silent=True)
    module = context.command.callback.__module__ if context and context.command.callback else "__main__"
    spec = sys.modules["__main__"].__spec__
    return spec.name if module == "__main__" and spec else module

"""What `dtvit-edge calibrate` finds, and what it takes: verdicts, seconds and peak memory, as a record.

    python -m benchmarks.standalone.calibration_cost "demo, phantoms" -- out/demo/demo.dtvit --slices out/cal/truth.csv

Everything behind `--` goes to `dtvit-edge calibrate`, which runs as a separate process, as a user would run it.
Time and memory are the whole process's: reading slices, ranges, all methods, sensitivity and verdicts.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.measure import child_process
from benchmarks.results import GATE_RECORDS
from benchmarks.standalone.program import record_option, start
from dtvit_edge.cli import render
from dtvit_edge.cli.units import duration, size
from evaluation.records import Record, append

WHAT = "calibrate: the gate's verdicts"


@dataclass(frozen=True)
class CalibrationRun:
    """One calibration: what it printed as JSON, its seconds and its peak resident memory."""

    report: dict[str, Any]
    seconds: float
    peak_bytes: int


def calibrate(arguments: tuple[str, ...]) -> CalibrationRun:
    """Run the command; a gate that says no is a result.

    Raises:
        click.ClickException: it ended with another status than 0 or 1.
    """
    command = [sys.executable, "-m", "dtvit_edge", "calibrate", *arguments, "--json"]
    ended = child_process.run(command, keep_stderr=False)
    if ended.status not in (0, 1) or not ended.stdout.strip():
        raise click.ClickException(f"{shlex.join(command)}: exit status {ended.status}")
    return CalibrationRun(json.loads(ended.stdout), ended.seconds, ended.peak_bytes)


def record_of(name: str, run: CalibrationRun, arguments: tuple[str, ...]) -> Record:
    """A calibration as a line of records; the samples are the differences of the slices that differ most."""
    summary: dict[str, float] = {"seconds": run.seconds, "peak_bytes": float(run.peak_bytes)}
    samples: dict[str, list[float]] = {}
    for verdict in run.report["verdicts"]:
        precision = verdict["precision"]
        samples[precision] = [difference for _, difference in verdict["worst"]]
        figures = {"size": run.report["sizes"][precision], "rms": verdict["rms"]}
        for one in verdict["elsewhere"]:
            figures |= {f"{one['name']}, {key}": one["ich"][key] for key in ("slices", "agreement", "high_difference")}
        for head in ("ich", "location", "studies"):
            figures |= {f"{head}_{key}": value for key, value in (verdict[head] or {}).items()}
        for key in ("auc", "auc_reference"):
            figures |= {} if verdict[key] is None else {key: verdict[key]}
        for key in ("sensitivity", "specificity"):
            ends = zip(("", "_low", "_high"), verdict[key] or (), strict=False)
            figures |= {f"{key}{end}": value for end, value in ends}
        summary |= {f"{precision}: {key}": float(value) for key, value in figures.items() if value is not None}
    options = {
        "name": name,
        "verdicts": {v["precision"]: v["verdict"] for v in run.report["verdicts"]},
        "configurations": {name: v["verdict"] for name, v in run.report["configurations"].items()},
        "reasons": {v["precision"]: v["reasons"] for v in run.report["verdicts"]},
        **{
            key: run.report[key]
            for key in ("method", "methods", "kept_higher", "curve", "encoder", "training", "slices", "limits")
        },
        "command": shlex.join(["dtvit-edge", "calibrate", *arguments]),
    }
    digests = {"bundle": run.report["digest"]}
    return Record(WHAT, "|difference of ICH probability|", samples, summary, digests=digests, options=options)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@record_option(GATE_RECORDS)
def main(name: str, arguments: tuple[str, ...], out: Path) -> None:
    """Calibrate with these ARGUMENTS of `dtvit-edge calibrate`, and append the record as NAME."""
    run = calibrate(arguments)
    append(out, record_of(name, run, arguments))
    for verdict in run.report["verdicts"]:
        render.echo(f"{verdict['precision']}: {verdict['verdict']} {' '.join(verdict['reasons'])}")
    render.echo(f"{duration(run.seconds)}, peak {size(run.peak_bytes)}")


if __name__ == "__main__":
    start(main)

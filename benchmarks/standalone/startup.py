"""How long a user waits before anything happens: importing the package, and `dtvit-edge --help`.

    python -m benchmarks.standalone.startup

`import` is timed inside a fresh interpreter, around the import statement alone; `help` and `bare` are whole processes,
`bare` being `python -c pass`, what any Python program pays here. The three alternate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge.cli import render

WHAT = "start: import dtvit_edge, dtvit-edge --help"
_TIMED_IMPORT = "import time; t = time.perf_counter(); import dtvit_edge; print(time.perf_counter() - t)"


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds by process, one sample a round, after one round of warm-up."""
    samples: dict[str, list[float]] = {"import": [], "help": [], "bare": []}
    for round_ in range(rounds + 1):
        seconds = {
            "import": float(_run("-c", _TIMED_IMPORT)[1]),
            "help": _run("-m", "dtvit_edge", "--help")[0],
            "bare": _run("-c", "pass")[0],
        }
        if round_:
            for name, value in seconds.items():
                samples[name].append(value)
    return samples


def _run(*arguments: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


@click.command()
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(min=5), help="Take this many samples.")
@record_option()
def main(rounds: int, out: Path) -> None:
    """Measure start-up times, and append the record."""
    samples = measure(rounds)
    summary = {f"{name}_s_median": statistics.median(values) for name, values in samples.items()}
    summary |= {f"{name}_s_max": max(values) for name, values in samples.items()}
    for name, value in summary.items():
        render.echo(f"{name:<16} {value:.3f}")
    keep(out, WHAT, "s", samples, summary, rounds=rounds)


if __name__ == "__main__":
    start(main)

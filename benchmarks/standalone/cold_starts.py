"""What a start costs: whole processes of `dtvit-edge score` on one phantom slice, alternating between CPU backends.

    python -m benchmarks.standalone.cold_starts BUNDLE --before OTHER/CHECKOUT

With `--before` another checkout's code alternates with this one's, over the same bundle. OpenVINO takes the compiled
model that `build --backend openvino` left in the bundle's `engines/`, or compiles; the record says which. Seconds are
of the wall clock, and count whatever else the machine does; CPU seconds and memory less so.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

import click

from benchmarks.measure import child_process, cold_start
from benchmarks.measure.configurations import Configuration
from benchmarks.results import record_option
from dtvit_edge import backends
from dtvit_edge.bundle import BUILT_SUFFIXES, ENGINES, Bundle
from dtvit_edge.cli import render
from dtvit_edge.errors import VerdictError
from dtvit_edge.phantom import render_study, write_study
from evaluation.records import Record, append

WHAT = "cold start: dtvit-edge score on one slice, whole processes"
_HERE = Path(__file__).parents[2]
_MIB = 1 << 20


def measure(
    configurations: dict[str, tuple[Configuration, Path]], file: Path, rounds: int, threads: int | None
) -> dict[str, list[float]]:
    """Seconds, CPU seconds and MiB by what ran, one sample a round, after one round that fills the page cache.

    Args:
        configurations: by name, what runs and the checkout whose code runs it.

    Raises:
        VerdictError: one did not score the slice.
    """
    samples: dict[str, list[float]] = {}
    for round_ in range(rounds + 1):
        for name, (configuration, checkout) in configurations.items():
            with tempfile.TemporaryDirectory() as folder:
                words = cold_start.command(configuration, file, Path(folder) / "out", threads)
                # As for a user, the first round keeps Python's byte code: compiling ours takes 0.3 s.
                # Python looks for a module first where it is started.
                settings = ["-u", "PYTHONDONTWRITEBYTECODE", "-C", str(checkout), f"PYTHONPATH={checkout}"]
                ended = child_process.run(["env", *settings, *words])
            if ended.status != 0:
                last = ended.stderr.strip().splitlines()[-1:] or [""]
                raise VerdictError(f"{name}: `dtvit-edge score` ended with {ended.status}: {last[0]}")
            if round_:
                for what, value in (
                    ("seconds", ended.seconds),
                    ("CPU seconds", ended.cpu_seconds),
                    ("peak MiB", ended.peak_bytes / _MIB),
                ):
                    samples.setdefault(f"{name}: {what}", []).append(value)
    return samples


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--precision", default="int8", show_default=True, help="Run this model of the bundle.")
@click.option("--before", type=click.Path(path_type=Path), help="Alternate with the code of this checkout.")
@click.option("--threads", type=click.IntRange(1), help="Compute with this many threads.")
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1), help="Take this many samples.")
@record_option()
def main(bundle: Path, precision: str, before: Path | None, threads: int | None, rounds: int, out: Path) -> None:
    """Measure cold starts of BUNDLE, and append the record."""
    opened = Bundle.open(bundle.resolve())
    names = [n for n, why_not in backends.availability().items() if why_not is None and not backends.runs_engines(n)]
    checkouts = {"": _HERE} | ({" before": before.resolve()} if before else {})
    configurations = {
        f"{name} {precision}{when}": (Configuration(opened, name, precision), checkout)
        for name in names
        for when, checkout in checkouts.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        (file,) = write_study(render_study(1, "deep", indices=(14,)), Path(folder))
        samples = measure(configurations, file, rounds, threads)
    summary = {f"{name} (median)": statistics.median(values) for name, values in samples.items()}
    for name, value in summary.items():
        render.echo(f"{name:<48} {value:.3f}")
    compiled = sorted(path.name for path in (opened.path / ENGINES).glob(f"*{BUILT_SUFFIXES[1]}"))
    command = f"python -m benchmarks.standalone.cold_starts {opened.path.name} --precision {precision}"
    options = {"rounds": rounds, "threads": threads, "compiled": compiled, "cores": os.cpu_count(), "command": command}
    append(out, Record(WHAT, "s, MiB", samples, summary, {"bundle": opened.digest}, options))


if __name__ == "__main__":
    main()

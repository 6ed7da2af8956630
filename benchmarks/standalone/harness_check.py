"""What the harness itself adds, and whether a repetition is told from a slowdown; each run a separate process.

    python -m benchmarks.standalone.harness_check BUNDLE --backend onnxruntime --precision int8

Three runs of one configuration: twice alike, and once with every call made longer by a share that is asked for (the
backend is called, then the clock is watched until it is over). Each also times the null backend, which answers at once.
A sample is the median of `RUNS` calls, so that a run can last longer than its samples are many.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.measure import child_process, conditions, latency
from benchmarks.measure.configurations import Configuration
from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.measure.statistics import ratio
from benchmarks.results import BENCH_RECORDS, names
from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge.backend import Backend, Logits
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import VerdictError
from evaluation.sampling import Pixels

WHAT = "harness check: what the harness adds, a repetition, a seeded slowdown"
RUNS = 15
FIRST, AGAIN, SLOWER = "first", "again", "slower"


class SlowedBackend:
    """A backend whose every call takes longer by a share."""

    def __init__(self, backend: Backend, share: float) -> None:
        self._backend = backend
        self._share = share

    def infer(self, pixels: Pixels) -> Logits:
        """The backend's answer, later."""
        start = time.perf_counter()
        logits = self._backend.infer(pixels)
        end = start + (time.perf_counter() - start) * (1 + self._share)
        while time.perf_counter() < end:
            pass
        return logits


def time_configuration(
    configuration: Configuration, share: float, seconds: float, threads: int
) -> dict[str, list[float]]:
    """Milliseconds of the configuration, slowed by a share, and of the null backend, in alternating rounds."""
    pixels = configuration.bundle.golden().pixels
    with configuration.create(threads) as backend:
        infer = SlowedBackend(backend, share).infer if share else backend.infer
        calls = {configuration.name: latency.one_slice(infer, pixels)}
        calls[names.NULL_BACKEND] = latency.one_slice(latency.NullBackend().infer, pixels)
        (call_ms,) = alternate({configuration.name: calls[configuration.name]}, 1, RUNS).values()
        return alternate(calls, max(round(seconds * 1e3 / call_ms[0] / RUNS), LEAST_ROUNDS), RUNS)


def measure(
    configuration: Configuration, share: float, seconds: float, threads: int
) -> dict[str, dict[str, list[float]]]:
    """The three runs, each in a separate process, one after the other.

    Raises:
        VerdictError: a process failed.
    """
    runs = {}
    for name, slowdown in ((FIRST, 0.0), (AGAIN, 0.0), (SLOWER, share)):
        words = ["--one", "--share", str(slowdown), "--seconds", str(seconds), "--threads", str(threads)]
        words += ["--backend", configuration.backend, "--precision", configuration.precision]
        ended = child_process.run(
            [sys.executable, "-m", "benchmarks.standalone.harness_check", str(configuration.bundle.path), *words]
        )
        if ended.status:
            raise VerdictError(f"{name}: ended with {ended.status}: {ended.stderr.strip()[-200:]}")
        runs[name] = json.loads(ended.stdout)
    return runs


@click.command()
@click.argument("bundle", type=FilePath())
@click.option("--backend", default="onnxruntime", show_default=True, help="Check this backend.")
@click.option("--precision", default="int8", show_default=True, help="Check this precision.")
@click.option("--share", default=0.05, show_default=True, help="Make the third run slower by this share.")
@click.option("--seconds", default=20.0, show_default=True, help="Let each run last this many seconds.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Use this many threads.")
@click.option("--one", is_flag=True, hidden=True, help="Make one run and print its samples as JSON.")
@record_option(BENCH_RECORDS)
def main(
    bundle: Path, backend: str, precision: str, share: float, seconds: float, threads: int, one: bool, out: Path
) -> None:
    """Check the harness on one configuration of BUNDLE, and append the record."""
    configuration = Configuration(Bundle.open(bundle), backend, precision)
    if one:
        render.echo_lines(json.dumps(time_configuration(configuration, share, seconds, threads)))
        return
    before = asdict(conditions.observe())
    samples_by_run = measure(configuration, share, seconds, threads)
    times = {name: runs[configuration.name] for name, runs in samples_by_run.items()}
    null = samples_by_run[FIRST][names.NULL_BACKEND]
    samples = {**times, names.NULL_BACKEND: null}
    summary = {"harness: share": statistics.median(null) / statistics.median(times[FIRST])}
    verdicts = {}
    for name in (AGAIN, SLOWER):
        against = ratio(times[name], times[FIRST], paired=False)
        summary |= {f"{name}: ratio": against.value, f"{name}: low": against.low, f"{name}: high": against.high}
        verdicts[name] = against.verdict
        render.echo(f"{name}: {against}, {against.verdict}")
    render.echo(f"the harness adds {summary['harness: share']:.4%} of {statistics.median(times[FIRST]):.3f} ms")
    manifest = configuration.bundle.manifest
    keep(
        out, WHAT, names.MS, samples, summary, {"bundle": configuration.bundle.digest}, bundle=manifest.name,
        encoder=manifest.encoder, training=manifest.training, configuration=configuration.name, share=share,
        threads=threads, runs=RUNS, verdicts=verdicts, before=before, after=asdict(conditions.observe()),
    )  # fmt: skip


if __name__ == "__main__":
    start(main)

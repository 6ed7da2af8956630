"""Whether `tune` finds what an exhaustive measurement finds: its choice beside every configuration that it may choose.

    python -m benchmarks.standalone.tune_check BUNDLE

`tune` measures for its time, some runs one after the other. Then every candidate is opened, whatever it costs, and all
are timed by turns at both batches, on the same slices from stored pixels to logits, in the same process. A choice is
within so many per cent of the fastest: the ratio of the two medians, taken by rounds. Let nothing else run meanwhile.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click

from benchmarks.measure.interleaving import alternate
from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.scoring.candidates import find_settings
from dtvit_edge.scoring.configuration import Resolved
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.opened import opened_model
from dtvit_edge.scoring.proof import golden_slices
from dtvit_edge.scoring.tuning import Tuner
from evaluation.records import ratio_summary

WHAT = "tune: its choice beside every configuration that it may choose"
WARM_UP = 1


@contextmanager
def every_candidate(bundle: Bundle) -> Iterator[dict[str, Callable[[], None]]]:
    """By its words a call of each candidate and batch: stored pixels to logits, as many as the largest batch has."""
    slices = golden_slices(bundle.golden())
    settings, _ = find_settings(bundle)
    with ExitStack() as stack:
        executors = {
            setting: stack.enter_context(opened_model(bundle, Resolved(setting.options, "a candidate"))).executor
            for setting in settings
        }
        most = max(executor.batch for executor in executors.values())
        shown = [slices[i % len(slices)] for i in range(most)]
        yield {
            setting.at(batch).words: partial(_score, executor, shown, batch)
            for setting, executor in executors.items()
            for batch in sorted({1, executor.batch})
        }


def _score(executor: Executor, slices: list[Slice], batch: int) -> None:
    for first in range(0, len(slices), batch):
        executor.submit([executor.prepare(slice_) for slice_ in slices[first : first + batch]])
        executor.collect()


@click.command()
@click.argument("path", metavar="BUNDLE", type=FilePath())
@click.option("--seconds", default=60.0, show_default=True, help="Give each run of `tune` this many seconds.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Let `tune` choose this many times.")
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(2), help="Time each candidate so often.")
@record_option()
def main(path: Path, seconds: float, runs: int, rounds: int, out: Path) -> None:
    """Compare what `tune` chooses for BUNDLE with the fastest of all candidates here; append the record."""
    bundle = Bundle.open(path)
    chosen = []
    for number in range(runs):
        profile = Tuner(bundle, seconds).run(render.progress)
        chosen.append(profile.chosen.words)
        render.echo(f"run {number + 1}: {profile.chosen.words} ({profile.why})")
    began = time.perf_counter()
    with every_candidate(bundle) as calls:
        samples = alternate(calls, rounds, 1, warm_up=WARM_UP)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    best = min(medians, key=lambda name: medians[name])
    summary = {"seconds of the exhaustive measurement": time.perf_counter() - began}
    for name, value in sorted(medians.items(), key=lambda item: item[1]):
        render.echo(f"{name:<44} {value / medians[best]:.3f} of the fastest's time")
    for words in dict.fromkeys(chosen):
        ratios = ratio_summary(samples[words], samples[best])
        summary |= {f"{words}: {figure}": value for figure, value in ratios.items()}
        share = 100 * (ratios["ratio_median"] - 1)
        render.echo(f"tune chose {words}: {share:+.1f} % of the fastest's time, {best}")
    keep(
        out,
        WHAT,
        "ms",
        samples,
        summary,
        {"bundle": bundle.digest},
        encoder=bundle.manifest.encoder,
        chosen=chosen,
        fastest=best,
        seconds=seconds,
        rounds=rounds,
    )


if __name__ == "__main__":
    start(main)

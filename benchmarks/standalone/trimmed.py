"""What leaving out empty patches saves: the files of a `trimmed_` ViT's bundle at full length and trimmed, by turns.

    python -m benchmarks.standalone.trimmed BUNDLE --slices labels.csv

Every backend of this machine gets the slices one by one, on one thread: how many patches are left differs by slice, so
that all contenders see the same ones, each round all of them. Times are CPU time, from bytes to logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.standalone.program import compare, keep, record_option, start
from dtvit_edge import backends
from dtvit_edge.backend import Backend, in_batches
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import ConfigError
from dtvit_edge.precisions import TRIMMED
from dtvit_edge.scoring.api import Options, open_backend
from evaluation.sampling import candidates, load_set

WHAT = "empty patches left out: CPU time of one slice"
WHOLE, SHORT = "all patches", "trimmed"


def contenders(bundle: Bundle, stack: ExitStack) -> dict[str, Backend]:
    """Every backend and precision of which the bundle has both files, opened on one thread.

    Raises:
        ConfigError: there are none.
    """
    here = [name for name, why_not in backends.availability().items() if why_not is None]
    opened = {
        f"{name} {whole}: {way}": stack.enter_context(open_backend(bundle, name, Options(name, precision, threads=1)))
        for name in here
        for whole, trimmed in TRIMMED.items()
        if {whole, trimmed} <= set(bundle.manifest.models) & set(backends.precisions(name))
        for way, precision in ((WHOLE, whole), (SHORT, trimmed))
    }
    if not opened:
        raise ConfigError(f"{bundle.path} holds no trimmed files that a backend here runs")
    return opened


@click.command()
@click.argument("path", metavar="BUNDLE", type=FilePath())
@click.option(
    "--slices",
    multiple=True,
    required=True,
    type=FilePath(),
    help="Take slices from these, a labelled CSV or study folders.",
)
@click.option("--count", default=24, show_default=True, type=click.IntRange(1), help="Take this many of them at most.")
@click.option("--rounds", default=LEAST_ROUNDS, show_default=True, type=click.IntRange(2), help="Time so many rounds.")
@record_option()
def main(path: Path, slices: tuple[Path, ...], count: int, rounds: int, out: Path) -> None:
    """Compare the files of BUNDLE that leave out empty patches with those that do not; append the record."""
    bundle = Bundle.open(path)
    spec = bundle.manifest.spec
    pixels = load_set(candidates(slices), count, spec, seed=0, name="slices", progress=render.progress).pixels
    with ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {
            name: partial(in_batches, backend.infer, pixels, 1) for name, backend in contenders(bundle, stack).items()
        }
        rounds_ms = alternate(calls, rounds, runs=1, warm_up=1, clock=time.process_time)
    samples = {name: [value / len(pixels) for value in values] for name, values in rounds_ms.items()}
    summary = compare(samples, WHOLE) | {"slices": float(len(pixels)), "zero pixels": float(np.mean(pixels == 0))}
    keep(out, WHAT, "ms", samples, summary, {"bundle": bundle.digest}, encoder=bundle.manifest.encoder, rounds=rounds)


if __name__ == "__main__":
    start(main)

"""Does scoring hold on to memory or files? One process, 10,000 slices through one pipeline, looked at every 500.

    python -m benchmarks.standalone.leak BUNDLE STUDIES...

The slices of the studies, again and again; files are read each time.
"""

from __future__ import annotations

import os
import statistics
from itertools import cycle, islice
from pathlib import Path

import click

from benchmarks.measure.inputs import discover_slices
from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import VerdictError
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.api import Options, images_of, make_pipeline, open_backend, open_executor

WHAT = "memory and open files over many slices"
EVERY = 500


def resident_bytes() -> int:
    """This process's resident memory (Linux, proc(5): statm counts pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """This process's file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


@click.command()
@click.argument("bundle", type=FilePath())
@click.argument("studies", nargs=-1, required=True, type=FilePath(exists=True))
@click.option(
    "--slices", default=10_000, show_default=True, type=click.IntRange(4 * EVERY), help="Score this many slices."
)
@click.option("--backend", default=backends.AUTO, show_default=True, help="Score with this backend.")
@click.option("--precision", default="fp32", show_default=True, help="Score in this precision.")
@click.option("--threads", type=click.IntRange(1), help="Use this many threads in a CPU backend.")
@click.option("--workers", type=click.IntRange(1), help="Read ahead with this many threads.")
@record_option()
def main(
    bundle: Path, studies: tuple[Path, ...], slices: int, backend: str, precision: str, threads: int | None,
    workers: int | None, out: Path,
) -> None:  # fmt: skip
    """Score slices of STUDIES with BUNDLE again and again, and watch memory and open files.

    The growth is the median of the last quarter of the looks less that of the second quarter.
    """
    opened = Bundle.open(bundle)
    options = Options(backends.choose(backend).name, precision, threads=threads, workers=workers)
    images = list(islice(cycle(images_of(discover_slices(studies, any_series=False), opened.manifest.spec)), slices))
    memory: list[float] = []
    files: list[float] = []
    done = scored_slices = 0
    with open_backend(opened, options.backend, options) as running, open_executor(opened, running, options) as executor:
        for scored in make_pipeline(opened, executor, options)(images):
            done += len(scored.rows)
            scored_slices += sum(row.status is Status.SCORED for row in scored.rows)
            if done >= EVERY * (len(memory) + 1):
                memory.append(resident_bytes() / 2**20)
                files.append(float(open_files()))
        described = running.describe()
    if not scored_slices:
        raise VerdictError("not one of the slices was scored; their memory says nothing")
    quarter = len(memory) // 4
    growth = statistics.median(memory[-quarter:]) - statistics.median(memory[quarter : 2 * quarter])
    summary = {"MiB at the end": memory[-1], "MiB grown": growth, "files at most": max(files), "slices": float(done)}
    summary["files grown"] = files[-1] - files[0]
    samples = {"resident": memory, "files": files}
    keep(
        out, WHAT, "MiB", samples, summary, {"bundle": opened.digest}, workers=workers, precision=precision, **described
    )
    for name, value in summary.items():
        render.echo(f"{name:16} {value:.0f}" if name.startswith(("files", "slices")) else f"{name:16} {value:.1f}")


if __name__ == "__main__":
    start(main)

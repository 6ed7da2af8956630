"""The command: chooses stages, runs them, and reads the summary from the records.

Exit status 0 where none failed, 1 where one did, 2 for wrong usage.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import click

from benchmarks.gpu_check import summary
from benchmarks.gpu_check.runner import PASSED, run_stages
from benchmarks.gpu_check.settings import DEFAULT_PRECISIONS, Settings
from benchmarks.gpu_check.stages import NOT_MEASURED, stages
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath, FiniteRange
from dtvit_edge.trt import library
from dtvit_edge.trt.releases import PRECISIONS


@click.command()
@click.argument("bundle", type=FilePath(exists=True))
@click.argument("studies", nargs=-1, required=True, type=FilePath(exists=True))
@click.option("-o", "--out", required=True, type=FilePath(), help="Write records, logs and results here.")
@click.option("--stage", "names", multiple=True, help="Run only stages of this name; * stands for any part of it.")
@click.option("--list", "listed", is_flag=True, help="List the stages with their time limits, and run none.")
@click.option("--summary", "told", is_flag=True, help="Say what the records in OUT prove, and run none.")
@click.option("--missing", is_flag=True, help="Run only the stages that have not passed yet.")
@click.option("--minutes", type=FiniteRange(0), help="Begin no stage after this many minutes, and end the last then.")
@click.option(
    "--backend",
    default=library.AUTO,
    show_default=True,
    type=click.Choice([library.AUTO, *library.MODULES]),
    help="Build with this library.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    default=DEFAULT_PRECISIONS,
    help="Check only this precision (default: all of them).",
)
@click.option(
    "--max-batch", type=click.IntRange(1), default=64, show_default=True, help="Build engines for up to this."
)
@click.option(
    "--rounds", type=click.IntRange(2), default=200, show_default=True, help="Take so many samples of each time."
)
@click.option("--no-library-tactics", is_flag=True, help="Leave cuBLAS and cuDNN out, below TensorRT 11.")
@click.option("--pytorch-python", help="Time PyTorch with this interpreter, which has torch; needs --weights.")
@click.option("--weights", type=FilePath(exists=True), help="The checkpoint that PyTorch runs.")
def main(
    bundle: Path, studies: tuple[Path, ...], out: Path, names: tuple[str, ...], listed: bool, told: bool, missing: bool,
    minutes: float | None, backend: str, precisions: tuple[str, ...], max_batch: int, rounds: int,
    no_library_tactics: bool, pytorch_python: str | None, weights: Path | None,
) -> None:  # fmt: skip
    """Ask this machine's GPU everything about BUNDLE, on the CT studies below STUDIES; a process for each stage."""
    if bool(pytorch_python) != bool(weights):
        raise click.UsageError("--pytorch-python and --weights go together")
    settings = Settings(
        os.path.abspath(bundle), tuple(map(os.path.abspath, studies)), os.path.abspath(out), backend, precisions,
        max_batch, rounds=rounds, library_tactics=not no_library_tactics, pytorch_python=pytorch_python,
        weights=os.path.abspath(weights) if weights else None,
    )  # fmt: skip
    every = stages(settings)
    for name in names:
        if not any(fnmatchcase(stage.name, name) for stage in every):
            raise click.UsageError(f"no stage {name}; --list names them")
    asked = [stage for stage in every if not names or any(fnmatchcase(stage.name, name) for name in names)]
    if listed:
        for stage in asked:
            render.echo(f"{stage.name:16} {stage.limit_s:4.0f} s  {stage.proves}")
        render.echo(f"not measured: {NOT_MEASURED}")
        return
    if not told:
        passed = {end.stage for end in summary.ends_of(settings.records, asked) if end.outcome == PASSED}
        chosen = [stage for stage in asked if not missing or stage.name not in passed]
        budget_s = None if minutes is None else 60 * minutes
        run_stages(settings, chosen, lambda line: render.echo(line, err=True), budget_s=budget_s)
    ends = summary.ends_of(settings.records, asked)
    for line in summary.lines(ends):
        render.echo(line)
    raise SystemExit(int(summary.failed(ends)))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu_check")

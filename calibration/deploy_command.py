"""The command `dtvit-edge deploy`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.options import calibration_options, config_of
from dtvit_edge.cli.option_set import FilePath, FiniteRange, json_option, refuse_given
from evaluation.limits import LIMIT_OPTIONS
from export.options import import_options

if TYPE_CHECKING:
    from calibration.deploy_steps import Step


@click.command()
@click.argument("weights", type=FilePath())
@click.option(
    "-o",
    "--out",
    "--output",
    "output",
    required=True,
    type=FilePath(),
    metavar="NAME.dtvit",
    help="Write the bundle to this folder, and NAME.deploy.json beside it.",
)
@click.option("--overwrite", is_flag=True, help="Replace what other weights, options or commands left there.")
@import_options
@calibration_options
@click.option(
    "--tune-seconds",
    type=FiniteRange(0, 3600),
    default=60,
    show_default=True,
    metavar="S",
    help="Measure for about S seconds which configuration scores fastest on this machine; 0 leaves it to the device.",
)
@json_option
def deploy(
    weights: Path,
    output: Path,
    overwrite: bool,
    expect: Path | None,
    slices: tuple[Path, ...],
    test_slices: tuple[Path, ...],
    other: tuple[Path, ...],
    tune_seconds: float,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Do with the checkpoint WEIGHTS all that this machine can.

    That is `export`, then `calibrate` where --slices are given, then `build` where a GPU with TensorRT is, else the
    commands for the device are printed, then `tune`. Interrupted, the same command goes on after the last step that has
    ended; a step is not repeated for the same inputs, which are known by their digests. The exit status is 1 where a
    precision did not pass; the bundle holds the others.
    """
    from calibration.deployment import Deployment
    from calibration.deployment import deploy as run
    from dtvit_edge.cli import render
    from dtvit_edge.errors import VerdictError
    from export.importing import ImportOptions

    if not slices:
        of_calibration = {"test_slices", "other", *inspect.signature(config_of).parameters, *LIMIT_OPTIONS}
        refuse_given(of_calibration, "goes with --slices, which say what to calibrate on")
    of_import = {field.name for field in fields(ImportOptions)} & set(chosen)
    options = ImportOptions(**{name: chosen.pop(name) for name in of_import})
    asked = Deployment(weights, output, options, expect, slices, test_slices, other, config_of(**chosen), tune_seconds)
    steps: list[Step] = []
    try:
        for step in run(
            asked, overwrite=overwrite, progress=render.progress, say=lambda line: render.echo(line, err=True)
        ):
            steps.append(step)
    finally:
        if steps:  # an error that ends the run says what went wrong; the table what had ended before
            _show(output, steps, as_json=as_json)
    refused = [name for step in steps for name in step.refused]
    if refused:
        raise VerdictError(f"did not pass: {', '.join(refused)}")


def _show(output: Path, steps: Sequence[Step], *, as_json: bool) -> None:
    from dtvit_edge.cli import render

    if as_json:
        passed = not any(step.refused for step in steps)
        render.echo_lines(
            json.dumps({"bundle": str(output), "passed": passed, "steps": [asdict(step) for step in steps]})
        )
        return
    cells = []
    for step in steps:
        taken = "" if step.seconds is None else f"{step.seconds:.1f} s" + ", before" * step.before
        for place, outcome in enumerate(step.outcomes):
            first = (step.name, taken) if place == 0 else ("", "")
            cells.append((first[0], outcome.precision, outcome.verdict, first[1], outcome.words))
    render.rows(("step", "precision", "verdict", "time", "what was made, or why not"), cells)

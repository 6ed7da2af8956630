"""The paper's comparisons in one go: every encoder, both arms and both protocols over one labelled set.

    python -m training.experiments out/phe-sich/labels.csv -o out/experiments --encoders resnet18,alexnet

The data are read or rendered once. Every training is a folder of `dtvit-edge train`, so that the same command goes on
where an interrupted one stopped; at the end all of them are evaluated together. One budget for all: the same split, the
same images in the same number, the same optimiser.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from dtvit_edge.cli import render
from dtvit_edge.errors import ConfigError, DtvitError
from evaluation.image_sets import load_image_set
from evaluation.records import append
from export.encoders import DEFAULT_ENCODER
from training.command import training_options
from training.config import TrainConfig
from training.evaluate import evaluate_model
from training.report import record_of, write_report
from training.train import train

# Table 3 of the paper, and the two that its text names beside it.
ENCODERS = (DEFAULT_ENCODER, "resnet18", "vgg16", "resnet34", "alexnet")


def plan(
    base: TrainConfig, encoders: tuple[str, ...], *, arms: bool, protocols: bool
) -> Iterator[tuple[str, TrainConfig]]:
    """What is trained, by folder name: every encoder; of the first also the other arm and the paper's protocol."""
    for encoder in encoders:
        yield encoder, replace(base, encoder=encoder)
    first = replace(base, encoder=encoders[0])
    if arms:
        yield f"{encoders[0]}-other-arm", replace(first, augment=not first.augment)
    if protocols:
        yield f"{encoders[0]}-paper-protocol", replace(first, paper_protocol=True, test_folds=1)


@click.command()
@click.argument("data")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Write a folder for each training, and the report, into this one.",
)
@click.option(
    "--encoders",
    default=",".join(ENCODERS),
    show_default=True,
    help="Train these encoders, by their names in timm, or alexnet.",
)
@click.option(
    "--arms/--no-arms",
    default=True,
    show_default=True,
    help="Train the first encoder in the other arm too, with or without augmentation.",
)
@click.option(
    "--protocols/--no-protocols",
    default=True,
    show_default=True,
    help="Train the first encoder under the paper's protocol too.",
)
@click.option("--record", type=click.Path(path_type=Path), help="Append the figures to this file of records (.jsonl).")
@training_options
def main(
    data: str,
    out: Path,
    encoders: str,
    arms: bool,
    protocols: bool,
    record: Path | None,
    workers: int,
    threads: int | None,
    **options: Any,
) -> None:
    """Train every encoder on DATA (a CSV, or phantoms:STUDIES) under one budget, and evaluate them all."""
    if threads:
        torch.set_num_threads(threads)
    try:
        base = TrainConfig(**options)
        image_set = load_image_set(data, base.spec, workers=workers, progress=render.progress)
        folders = []
        for name, config in plan(base, tuple(encoders.split(",")), arms=arms, protocols=protocols):
            render.echo(f"training {name}", err=True)
            train(image_set, config, out / name, progress=render.progress)
            folders.append(out / name)
        evaluations = [
            evaluate_model(folder, image_set, seed=base.seed, progress=render.progress) for folder in folders
        ]
        command = shlex.join(["python", "-m", "training.experiments", *sys.argv[1:]])
        for evaluation in evaluations:
            if record:
                append(record, record_of(evaluation, data, image_set, command))
        render.echo(write_report(out / "report", image_set, evaluations, base.spec, seed=base.seed, command=command))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except DtvitError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m training.experiments")

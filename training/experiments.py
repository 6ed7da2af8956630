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
from training import encoder_comparison
from training.command import out_option, record_option, training_options
from training.config import TrainConfig
from training.evaluate import evaluate_model
from training.report import record_of, write_report
from training.train import train

# Table 3 of the paper, and the two that its text names beside it.
ARMS = ("first", "all", "none")
ENCODERS = (DEFAULT_ENCODER, "resnet18", "vgg16", "resnet34", "alexnet")


def plan(
    base: TrainConfig, encoders: tuple[str, ...], *, arms: str, protocols: bool, seeds: int = 1
) -> Iterator[tuple[str, TrainConfig]]:
    """What is trained, by folder name: every encoder under every seed; of the first also under the paper's protocol.

    Args:
        arms: one of `ARMS`, which encoders are trained in the other arm too.
        seeds: how many; all share the first one's split and batch.
    """
    for seed in range(base.seed, base.seed + seeds):
        name = "" if seed == base.seed else f"-seed-{seed}"
        seeded = base if seeds == 1 else replace(base, seed=seed, split_seed=base.seed, batch=base.batch_size)
        for encoder in encoders:
            config = replace(seeded, encoder=encoder)
            yield f"{encoder}{name}", config
            if arms == "all" or (arms == "first" and encoder == encoders[0]):
                yield f"{encoder}-other-arm{name}", replace(config, augment=not config.augment)
    if protocols:
        first = replace(base, encoder=encoders[0], batch=base.batch_size)
        yield f"{encoders[0]}-paper-protocol", replace(first, paper_protocol=True, test_folds=1)


@click.command()
@click.argument("data")
@out_option("Write a folder for each training, and the report, into this one.")
@click.option(
    "--encoders",
    default=",".join(ENCODERS),
    show_default=True,
    help="Train these encoders, by their names in timm, or alexnet.",
)
@click.option(
    "--arms",
    default="first",
    show_default=True,
    type=click.Choice(ARMS),
    help="Train these encoders in the other arm too, with or without augmentation.",
)
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1), help="Train each of them under this many seeds."
)
@click.option(
    "--protocols/--no-protocols",
    default=True,
    show_default=True,
    help="Train the first encoder under the paper's protocol too.",
)
@record_option
@training_options
def main(
    data: str,
    out: Path,
    encoders: str,
    arms: str,
    seeds: int,
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
        for name, config in plan(base, tuple(encoders.split(",")), arms=arms, protocols=protocols, seeds=seeds):
            render.echo(f"training {name}", err=True)
            train(image_set, config, out / name, progress=render.progress)
            folders.append(out / name)
        evaluations = [
            evaluate_model(folder, image_set, seed=base.seed, progress=render.progress) for folder in folders
        ]
        command = shlex.join(["python", "-m", "training.experiments", *sys.argv[1:]])
        compared = encoder_comparison.record_of(evaluations, data, image_set, command)
        if record:
            for made in [
                *(record_of(e, data, image_set, command) for e in evaluations),
                *([compared] if compared else []),
            ]:
                append(record, made)
        for head, rows in (encoder_comparison.rows_of(compared) if compared else {}).items():
            render.echo(f"{head}: {encoder_comparison.ranking(rows)}", err=True)
        render.echo(write_report(out / "report", image_set, evaluations, base.spec, seed=base.seed, command=command))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except DtvitError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m training.experiments")

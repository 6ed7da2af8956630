"""The commands `dtvit-edge train` and `dtvit-edge evaluate`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dtvit_edge.spec import TRAINING_STATES

# What a training is made of (`config.TrainConfig`), for every command that trains.
_BUDGET = (
    click.option("--training", required=True, type=click.Choice(TRAINING_STATES), help="What the weights will say."),
    click.option("--epochs", default=50, show_default=True),
    click.option("--epoch-images", type=click.IntRange(1), help="Images of an epoch; default: the training part."),
    click.option("--batch", type=int, help="Default: 8 without augmentation, 32 with it (the paper's)."),
    click.option("--augment/--no-augment", default=True, show_default=True, help="Rotation, sharpness (paper 2.2.3)."),
    click.option("--flip", is_flag=True, help="Left and right change places at random."),
    click.option("--optimizer", default="sgd", show_default=True, type=click.Choice(["sgd", "adamw"])),
    click.option("--learning-rate", default=0.01, show_default=True),
    click.option("--momentum", default=0.0, show_default=True),
    click.option("--weight-decay", default=0.0, show_default=True),
    click.option("--schedule", default="constant", show_default=True, type=click.Choice(["constant", "cosine"])),
    click.option("--warmup-epochs", default=0, show_default=True),
    click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16", "fp16"])),
    click.option("--test-folds", default=1, show_default=True, help="Tenths of the patients held out as test."),
    click.option("--device", default="cpu", show_default=True),
    click.option("--seed", default=0, show_default=True),
)
_MACHINE = (
    click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes that read images."),
    click.option("--threads", type=click.IntRange(1), help="Of the training, on a CPU. Default: PyTorch's."),
)


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that every training has."""
    for option in reversed((*_BUDGET, *_MACHINE)):
        command = option(command)
    return command


@click.command()
@click.argument("data")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Where weights and history go.")
@click.option("--encoder", default="vit_base_patch16_224", show_default=True, help="timm's name, or alexnet.")
@click.option(
    "--init", type=click.Path(path_type=Path, exists=True), help="Start from this checkpoint, or these encoder weights."
)
@click.option("--encoder-rate", default=1.0, show_default=True, help="The encoder's learning rate over the heads'.")
@click.option("--frozen-blocks", default=0, show_default=True, help="A ViT's first blocks that stay as they are.")
@click.option("--patch-weight", default=0.0, show_default=True, help="Weight of a loss on patches, for phantoms.")
@click.option("--half-weights", is_flag=True, help="Write the checkpoint as float16.")
@click.option("--paper-protocol", is_flag=True, help="Replicate, then split by image (2.2.3): test images leak.")
@training_options
def train(data: str, out: Path, workers: int, threads: int | None, **options: Any) -> None:
    """Train DTViT on labelled slices.

    DATA is a CSV `path, patient, ich, location`, or phantoms:STUDIES. The same command continues a training that was
    interrupted.
    """
    import torch

    from dtvit_edge.cli import render
    from evaluation.source import load
    from training.config import TrainConfig
    from training.train import BEST
    from training.train import train as run

    if threads:
        torch.set_num_threads(threads)
    config = TrainConfig(**options)
    loaded = load(data, config.spec, workers=workers, progress=render.progress)
    history = run(loaded, config, out, progress=render.progress)
    best = min(history, key=lambda epoch: epoch.validation.loss)
    click.echo(f"best epoch {best.epoch} of {len(history)}: validation loss {best.validation.loss:.4f}")
    accuracies = {"haemorrhage": best.validation.ich_accuracy, "location": best.validation.location_accuracy}
    said = (f"{head} {'not labelled' if math.isnan(value) else f'{value:.4f}'}" for head, value in accuracies.items())
    click.echo(f"validation accuracy: {', '.join(said)}")
    click.echo(out / BEST)


@click.command()
@click.argument("data")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Where tables and figures go.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the figures to this file of records (.jsonl).")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes that read images.")
def evaluate(data: str, models: tuple[Path, ...], out: Path, seed: int, record: Path | None, workers: int) -> None:
    """Judge models on DATA: the paper's tables and figures.

    MODELS are folders of `dtvit-edge train`, each judged on the test part of its own split of DATA, or checkpoints,
    each judged on all of DATA, none of which it may have seen.
    """
    import shlex
    import sys

    from dtvit_edge.cli import render
    from evaluation.records import append
    from evaluation.source import load
    from training.evaluate import judge, spec_of
    from training.report import record_of, write_report

    spec = spec_of(models)
    loaded = load(data, spec, workers=workers, progress=render.progress)
    judged = [judge(path, loaded, seed=seed, progress=render.progress) for path in models]
    command = shlex.join(["dtvit-edge", *sys.argv[1:]])
    report = write_report(out, loaded, judged, spec, seed=seed, command=command)
    for one in judged:
        if record:
            append(record, record_of(one, data, loaded, command))
        for head, found in (("haemorrhage", one.ich), ("location", one.location)):
            if found is None:
                click.echo(f"{one.name}: {head} not assessed")
                continue
            shown = ", ".join(
                f"{name} {found.figures[name].value:.4f}"
                for name in ("accuracy", "auc", "auc_macro")
                if name in found.figures
            )
            click.echo(f"{one.name}: {head} {shown} on {found.slices} slices of {found.patients} patients")
    click.echo(report)

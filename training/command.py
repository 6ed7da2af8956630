"""The commands `dtvit-edge train` and `dtvit-edge evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from dtvit_edge.cli.option_set import Decorator, FilePath, option_set
from dtvit_edge.spec import TRAINING_STATES
from evaluation.repeating import RecordFile, command_line

_WORKERS = click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1), help="Read the images in this many processes."
)
record_option = click.option(
    "--record",
    cls=RecordFile,
    help="Append the figures to this file of records (.jsonl).",
)
# What every training has: options of `config.TrainConfig`, and how much of the machine it takes.
training_options = option_set(
    click.option(
        "--training",
        required=True,
        type=click.Choice(TRAINING_STATES),
        help="State how the model was trained; the weights and every result made with them carry it.",
    ),
    click.option("--epochs", default=50, show_default=True, help="Train for this many epochs."),
    click.option(
        "--epoch-images",
        type=click.IntRange(1),
        help="Draw this many images for each epoch; without it an epoch is the whole training set.",
    ),
    click.option(
        "--batch",
        type=int,
        help="Set the number of images in a batch; without it, as in the paper, 8, or 32 with augmentation.",
    ),
    click.option(
        "--augment/--no-augment",
        default=True,
        show_default=True,
        help="Rotate and sharpen the training images at random (paper 2.2.3).",
    ),
    click.option("--flip", is_flag=True, help="Mirror half of the training images, left for right."),
    click.option(
        "--optimizer",
        default="sgd",
        show_default=True,
        type=click.Choice(["sgd", "adamw"]),
        help="Choose the optimizer.",
    ),
    click.option("--learning-rate", default=0.01, show_default=True, help="Set the learning rate after warm-up."),
    click.option("--momentum", default=0.0, show_default=True, help="Set the momentum of SGD; AdamW ignores it."),
    click.option("--weight-decay", default=0.0, show_default=True, help="Set the weight decay."),
    click.option(
        "--schedule",
        default="constant",
        show_default=True,
        type=click.Choice(["constant", "cosine"]),
        help="Keep the learning rate constant after warm-up, or let it fall to 0 along half a cosine.",
    ),
    click.option(
        "--warmup-epochs",
        default=0,
        show_default=True,
        help="Raise the learning rate linearly over this many first epochs.",
    ),
    click.option(
        "--precision",
        default="fp32",
        show_default=True,
        type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Compute the forward pass in this precision; the weights stay fp32.",
    ),
    click.option(
        "--test-folds", default=1, show_default=True, help="Hold out this many tenths of the patients as the test set."
    ),
    click.option("--device", default="cpu", show_default=True, help="Train on this PyTorch device, such as cuda:0."),
    click.option(
        "--seed", default=0, show_default=True, help="Set the seed of the split, of the order and of augmentation."
    ),
    _WORKERS,
    click.option(
        "--threads", type=click.IntRange(1), help="Train with this many CPU threads; without it PyTorch decides."
    ),
)


def out_option(help_text: str) -> Decorator:
    """Where a command writes."""
    return click.option("-o", "--out", required=True, type=FilePath(), help=help_text)


@click.command()
@click.argument("data")
@out_option("Write the weights and the history into this folder.")
@click.option(
    "--encoder",
    default="vit_base_patch16_224",
    show_default=True,
    help="Choose the encoder by its name in timm, or alexnet.",
)
@click.option(
    "--init",
    type=FilePath(exists=True),
    help="Start from this checkpoint of the whole model, or from these encoder weights; without it from random ones.",
)
@click.option(
    "--encoder-rate",
    default=1.0,
    show_default=True,
    help="Multiply the learning rate by this much for the encoder; the heads take it as it is.",
)
@click.option("--frozen-blocks", default=0, show_default=True, help="Leave this many first blocks of a ViT untrained.")
@click.option(
    "--patch-weight",
    default=0.0,
    show_default=True,
    help="Add a loss on each patch with this weight; it needs outlined haemorrhages, which phantoms have.",
)
@click.option("--half-weights", is_flag=True, help="Write the checkpoint as float16.")
@click.option(
    "--paper-protocol",
    is_flag=True,
    help="Replicate images first and split them by image afterwards, as the paper does (2.2.3); training images then "
    "leak into the test set.",
)
@training_options
def train(data: str, out: Path, workers: int, threads: int | None, **options: Any) -> None:
    """Train DTViT on the labelled slices of DATA.

    DATA is a CSV with the columns `path, patient, ich, location`, or phantoms:STUDIES. If a training was interrupted,
    the same command continues it.
    """
    import torch

    from dtvit_edge.cli import render
    from evaluation.image_sets import load_image_set
    from training.config import TrainConfig
    from training.train import BEST
    from training.train import train as run

    if threads:
        torch.set_num_threads(threads)
    config = TrainConfig(**options)
    image_set = load_image_set(data, config.spec, workers=workers, progress=render.progress)
    history = run(image_set, config, out, progress=render.progress)
    best = min(history, key=lambda epoch: epoch.validation.loss)
    render.echo(f"best epoch {best.epoch} of {len(history)}: validation loss {best.validation.loss:.4f}")
    accuracies = {"haemorrhage": best.validation.ich_accuracy, "location": best.validation.location_accuracy}
    shown = (f"{head} {'not labelled' if math.isnan(value) else f'{value:.4f}'}" for head, value in accuracies.items())
    render.echo(f"validation accuracy: {', '.join(shown)}")
    render.echo(out / BEST)


@click.command()
@click.argument("data")
@click.argument("models", nargs=-1, required=True, type=FilePath())
@out_option("Write the tables and figures into this folder.")
@click.option("--seed", default=0, show_default=True, help="Set the seed of the bootstrap.")
@record_option
@_WORKERS
def evaluate(data: str, models: tuple[Path, ...], out: Path, seed: int, record: Path | None, workers: int) -> None:
    """Evaluate MODELS on DATA, and draw the paper's tables and figures.

    A folder of `dtvit-edge train` is evaluated on the test part of its own split of DATA, a checkpoint on all of DATA,
    none of which it may have seen in training.
    """
    from dtvit_edge.cli import render
    from evaluation.image_sets import load_image_set
    from evaluation.records import append
    from training.evaluate import evaluate_model, spec_of
    from training.report import in_words, record_of, write_report

    spec = spec_of(models)
    image_set = load_image_set(data, spec, workers=workers, progress=render.progress)
    evaluations = [evaluate_model(path, image_set, seed=seed, progress=render.progress) for path in models]
    command = command_line(click.get_current_context(), "dtvit-edge", "evaluate")
    report = write_report(out, image_set, evaluations, spec, seed=seed, command=command)
    for evaluation in evaluations:
        if record:
            append(record, record_of(evaluation, data, image_set, command))
        for head, figures in (("haemorrhage", evaluation.ich), ("location", evaluation.location)):
            render.echo(f"{evaluation.name}: {head} {in_words(figures)}")
    render.echo(report)

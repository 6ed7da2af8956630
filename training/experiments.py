"""The paper's comparisons in one go: every encoder, both arms and both protocols over one labelled set.

    python -m training.experiments out/phe-sich/labels.csv -o out/experiments --encoders resnet18,alexnet

The data are read or rendered once. Every training is a folder of `dtvit-edge train`, so that the same command goes on
where an interrupted one stopped; at the end all of them are evaluated together. One budget for all: the same split, the
same images in the same number, the same optimiser. A learning rate, weights to start from or a loss on its patches that
an encoder has for itself are said in its row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import torch

from dtvit_edge.cli import render
from dtvit_edge.errors import ConfigError, DtvitError
from evaluation.image_sets import load_image_set
from evaluation.records import append
from evaluation.repeating import RecordOption, command_line
from export.encoders import DEFAULT_ENCODER
from training import encoder_comparison
from training.command import out_option, record_option, training_options
from training.config import TrainConfig
from training.evaluate import TrainingRun, evaluate_model
from training.parallel import train_together
from training.report import record_of, write_report
from training.train import train

# Table 3 of the paper, and the two that its text names beside it.
ARMS = ("first", "all", "none")
ENCODERS = (DEFAULT_ENCODER, "resnet18", "vgg16", "resnet34", "alexnet")


def plan(
    base: TrainConfig,
    encoders: tuple[str, ...],
    *,
    arms: str,
    protocols: bool,
    seeds: int = 1,
    once: Collection[str] = (),
    own: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Iterator[tuple[str, TrainConfig]]:
    """What is trained, by folder name: every encoder under every seed; of the first also under the paper's protocol.

    Args:
        arms: one of `ARMS`, which encoders are trained in the other arm too.
        seeds: how many; all share the first one's split and batch.
        once: encoders that are trained under the first seed alone.
        own: what of the configuration an encoder has for itself, such as its learning rate.
    """
    for seed in range(base.seed, base.seed + seeds):
        first = seed == base.seed
        name = "" if first else f"-seed-{seed}"
        seeded = base if seeds == 1 else replace(base, seed=seed, split_seed=base.seed, batch=base.batch_size)
        for encoder in encoders:
            if not first and encoder in once:
                continue
            config = replace(seeded, encoder=encoder, **own.get(encoder, {}))
            yield f"{encoder}{name}", config
            if arms == "all" or (arms == "first" and encoder == encoders[0]):
                yield f"{encoder}-other-arm{name}", replace(config, augment=not config.augment)
        if protocols and first:
            paper = replace(base, encoder=encoders[0], batch=base.batch_size, **own.get(encoders[0], {}))
            yield f"{encoders[0]}-paper-protocol", replace(paper, paper_protocol=True, test_folds=1)


def of_encoders(
    encoders: tuple[str, ...],
    once: Iterable[str] = (),
    *,
    rates: Iterable[str] = (),
    patch_losses: Iterable[str] = (),
    inits: Iterable[str] = (),
) -> dict[str, dict[str, Any]]:
    """What encoders have for themselves, from the words of the command line.

    Raises:
        ConfigError: a word that is no `ENCODER=VALUE`, an encoder that is not trained, no such file.
    """
    own: dict[str, dict[str, Any]] = {encoder: {} for encoder in encoders}
    for field, read, words in (
        ("learning_rate", float, rates),
        ("patch_weight", float, patch_losses),
        ("init", Path, inits),
    ):
        for word in words:
            encoder, equals, value = word.partition("=")
            if not equals or encoder not in own:
                raise ConfigError(f"{word!r}: expected ENCODER=VALUE with one of {', '.join(encoders)}")
            try:
                own[encoder][field] = read(value)
            except ValueError as error:
                raise ConfigError(f"{word!r}: {value!r} is no number") from error
            if field == "init" and not Path(value).is_file():
                raise ConfigError(f"{value}: no such file")
    if unknown := sorted(set(once) - set(own)):
        raise ConfigError(f"--once names {', '.join(unknown)}, which --encoders does not")
    return own


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
@click.option("--once", default="", help="Train these of the encoders under the first seed alone.")
@click.option(
    "--rate", "rates", multiple=True, metavar="ENCODER=RATE", help="Give this encoder a learning rate of its own."
)
@click.option(
    "--patch-loss",
    "patch_losses",
    multiple=True,
    metavar="ENCODER=WEIGHT",
    help="Add a loss on each patch to this encoder's, with this weight.",
)
@click.option(
    "--init", "inits", multiple=True, metavar="ENCODER=FILE", help="Start this encoder from these weights of it."
)
@click.option(
    "--protocols/--no-protocols",
    default=True,
    show_default=True,
    help="Train the first encoder under the paper's protocol too.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Train this many at a time, each in a process of its own with --threads threads (1 without it).",
)
@click.option(
    "--no-train",
    cls=RecordOption,
    is_flag=True,
    help="Train nothing, and evaluate the trainings that got to their end.",
)
@record_option
@training_options
def main(
    data: str,
    out: Path,
    encoders: str,
    arms: str,
    seeds: int,
    once: str,
    rates: tuple[str, ...],
    patch_losses: tuple[str, ...],
    inits: tuple[str, ...],
    protocols: bool,
    jobs: int | None,
    no_train: bool,
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
        names, alone = tuple(encoders.split(",")), tuple(filter(None, once.split(",")))
        if len(set(names)) < len(names):
            raise ConfigError("--encoders names an encoder twice, which is one folder; --seeds trains it again")
        own = {} if no_train else of_encoders(names, alone, rates=rates, patch_losses=patch_losses, inits=inits)
        planned = list(plan(base, names, arms=arms, protocols=protocols, seeds=seeds, once=alone, own=own))
        image_set = load_image_set(data, base.spec, workers=workers, progress=render.progress)
        if image_set.masks is None and any(config.patch_weight for _, config in planned):
            raise ConfigError(f"{data}: a patch loss needs data with outlined haemorrhages, which phantoms have")
        if no_train:
            pass
        elif jobs:
            for count, name in enumerate(
                train_together(image_set, planned, out, jobs=jobs, threads=threads or 1), start=1
            ):
                render.echo(f"trained {name} ({count} of {len(planned)})", err=True)
        else:
            for name, config in planned:
                render.echo(f"training {name}", err=True)
                train(image_set, config, out / name, progress=render.progress)
        folders = [out / name for name, _ in planned if not no_train or _is_finished(out / name)]
        if not folders:
            raise ConfigError(f"{out}: no training in it got to its end")
        evaluations = [
            evaluate_model(folder, image_set, seed=base.seed, progress=render.progress) for folder in folders
        ]
        command = command_line(click.get_current_context(), "python", "-m", "training.experiments")
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


def _is_finished(folder: Path) -> bool:
    try:
        return TrainingRun.read(folder).finished
    except ConfigError:
        return False


if __name__ == "__main__":
    main(prog_name="python -m training.experiments")

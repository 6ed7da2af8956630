"""The command `dtvit-edge train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dtvit_edge.spec import TRAINING_STATES


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Where weights and history go.")
@click.option("--encoder", default="vit_base_patch16_224", show_default=True, help="timm's name, or alexnet.")
@click.option(
    "--training", required=True, type=click.Choice(TRAINING_STATES), help="What the weights say of themselves."
)
@click.option("--epochs", default=50, show_default=True)
@click.option("--batch", type=int, help="Default: 8 without augmentation, 32 with it (the paper's).")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Rotation and sharpness (paper 2.2.3).")
@click.option("--optimizer", default="sgd", show_default=True, type=click.Choice(["sgd", "adamw"]))
@click.option("--learning-rate", default=0.01, show_default=True)
@click.option("--momentum", default=0.0, show_default=True)
@click.option("--weight-decay", default=0.0, show_default=True)
@click.option("--schedule", default="constant", show_default=True, type=click.Choice(["constant", "cosine"]))
@click.option("--warmup-epochs", default=0, show_default=True)
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16"]))
@click.option("--init", type=click.Path(path_type=Path, exists=True), help="Checkpoint to start from.")
@click.option("--paper-protocol", is_flag=True, help="Replicate, then split by image (2.2.3): test images leak.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes that read images.")
def train(data: Path, out: Path, workers: int, **options: Any) -> None:
    """Train DTViT on the labelled slices of DATA, a CSV `path, patient, ich, location`.

    The same command continues a training that was interrupted.
    """
    from benchmarks.paper.config import TrainConfig
    from benchmarks.paper.images import Data, load_images
    from benchmarks.paper.labels import labels_digest, read_labels
    from benchmarks.paper.train import train as run
    from dtvit_edge import show

    config = TrainConfig(**options)
    slices = read_labels(data)
    with show.progress("reading", len(slices)) as step:
        images = load_images(slices, config.spec, workers=workers, step=step)
    history = run(Data(slices, images, labels_digest(slices)), config, out, progress=show.progress)
    best = min(history, key=lambda epoch: epoch.validation.loss)
    click.echo(f"best epoch {best.epoch} of {len(history)}: validation loss {best.validation.loss:.4f}")
    click.echo(f"validation accuracy: haemorrhage {best.validation.ich_accuracy:.4f}, "
               f"location {best.validation.location_accuracy:.4f}")  # fmt: skip
    click.echo(out / "best.safetensors")

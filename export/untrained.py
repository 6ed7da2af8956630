"""Models from a seed, without training: shapes and speed are a trained model's, the answers mean nothing.

python -m export.untrained vit_base_patch16_224 out/vit-b16.safetensors
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import nn

from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import DtvitError
from export.checkpoint import save_checkpoint
from export.model import DTViT

SMALL_VIT = "vit_tiny_patch16_224"


def untrained_model(encoder: str = SMALL_VIT, seed: int = 0) -> DTViT:
    """A DTViT from a seed, in eval mode; torch's global generator is left as it was.

    Raises:
        ConfigError: no such encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DTViT(encoder)
        for head in (model.ich_head, model.location_head):
            for layer in head.children():
                if isinstance(layer, nn.Linear):
                    # PyTorch's own bounds give logits that hardly differ between slices.
                    nn.init.normal_(layer.weight, std=(2.0 / layer.in_features) ** 0.5)
                    nn.init.normal_(layer.bias, std=0.02)
    return model.eval()


@click.command()
@click.argument("encoder")
@click.argument("out", type=FilePath(dir_okay=False))
@click.option("--seed", default=0, show_default=True)
def main(encoder: str, out: Path, seed: int) -> None:
    """Write a checkpoint of an untrained ENCODER (timm's name, or alexnet) to OUT (.safetensors)."""
    try:
        save_checkpoint(untrained_model(encoder, seed), out, training="untrained")
    except DtvitError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main(prog_name="python -m export.untrained")

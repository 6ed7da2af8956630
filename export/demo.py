"""A seeded, untrained demo checkpoint, so that every command can be tried without anybody's weights.

python -m export.demo demo.safetensors
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import nn

from export.checkpoint import save_checkpoint
from export.model import DTViT

DEMO_ENCODER = "vit_tiny_patch16_224"


def demo_checkpoint(path: Path, encoder: str = DEMO_ENCODER, seed: int = 0) -> None:
    """Write an untrained DTViT as safetensors, marked `untrained`; the same seed gives the same bytes.

    Raises:
        ConfigError: no such encoder, or a path that does not end with `.safetensors`.
    """
    save_checkpoint(demo_model(encoder, seed), path, training="untrained")


def demo_model(encoder: str = DEMO_ENCODER, seed: int = 0) -> DTViT:
    """An untrained DTViT from a seed, in eval mode; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DTViT(encoder)
        for head in (model.ich_head, model.location_head):
            for layer in head:
                if isinstance(layer, nn.Linear):
                    # PyTorch's own bounds give logits that hardly differ between slices.
                    nn.init.normal_(layer.weight, std=(2.0 / layer.in_features) ** 0.5)
                    nn.init.normal_(layer.bias, std=0.02)
    return model.eval()


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--encoder", default=DEMO_ENCODER, show_default=True, help="timm's name, or alexnet.")
@click.option("--seed", default=0, show_default=True)
def main(path: Path, encoder: str, seed: int) -> None:
    """Write an untrained demo checkpoint to PATH (.safetensors)."""
    demo_checkpoint(path, encoder, seed)
    click.echo(str(path))


if __name__ == "__main__":
    main(prog_name="python -m export.demo")

"""Models from a seed, without training: shapes and speed are a trained model's, the answers mean nothing."""

from __future__ import annotations

import torch
from torch import nn

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
            for layer in head:
                if isinstance(layer, nn.Linear):
                    # PyTorch's own bounds give logits that hardly differ between slices.
                    nn.init.normal_(layer.weight, std=(2.0 / layer.in_features) ** 0.5)
                    nn.init.normal_(layer.bias, std=0.02)
    return model.eval()

"""Small models for the export tests: timm's own test encoders and a ViT-Tiny cut down to two blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dtvit_edge.spec import PreprocessSpec, Window
from export._torchvision import timm
from export.model import DTViT
from export.untrained import untrained_model
from tests.support.small_bundle import SMALL_VIT

THREE_WINDOWS = PreprocessSpec(windows=(Window(40, 80), Window(80, 200), Window(600, 2800)))


@pytest.fixture
def make_pixels() -> Callable[..., NDArray[np.uint8]]:
    """Seeded bytes, (N, C, 224, 224) uint8; called with N, and C where it is not 1."""

    def pixels(n: int, channels: int = 1) -> NDArray[np.uint8]:
        return np.random.default_rng(n).integers(0, 256, (n, channels, 224, 224), np.uint8)

    return pixels


def vit(**options: object) -> DTViT:
    """A DTViT around a two-block ViT of 48 features; `options` as timm's VisionTransformer takes them.

    Norms, biases and layer scale get seeded values, so that a rewrite that forgets one of them shows.
    """
    model = untrained_model(SMALL_VIT)
    torch.manual_seed(1)
    settings = {"embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0, "img_size": 224, **options}
    model.encoder = timm.models.vision_transformer.VisionTransformer(**settings)
    encoder: nn.Module = model.encoder
    for name, value in encoder.named_parameters():
        if value.ndim == 1 or "token" in name:
            nn.init.normal_(value, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.3)
    for head, outputs in ((model.ich_head, 2), (model.location_head, 3)):
        assert isinstance(head, nn.Sequential)
        head[0] = nn.Linear(48, 16)
        head[2] = nn.Linear(16, outputs)
    return model.eval()

"""Encoders come from timm or torchvision, at 224 pixels, and never from the network."""

from __future__ import annotations

import pytest
import torch

from dtvit_edge.errors import ConfigError
from export.encoders import create_encoder, feature_width
from export.stem_vit import STEM_VIT

SMALL = ["test_vit", "test_vit2", "test_resnet", "test_convnext", "vit_tiny_patch16_224", "resnet18", STEM_VIT]


@pytest.mark.parametrize("name", SMALL)
def test_features_have_the_promised_width(name: str) -> None:
    encoder = create_encoder(name).eval()
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 224, 224)).shape == (1, feature_width(encoder))


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_width_before_the_classifier_counts(name: str) -> None:
    encoder = create_encoder(name).eval()
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 224, 224)).shape == (1, 4096) == (1, feature_width(encoder))


def test_patch_14_works_at_224() -> None:
    encoder = create_encoder("vit_small_patch14_dinov2")
    assert encoder.patch_embed.num_patches == 256
    assert encoder.global_pool == "token"


def test_our_encoder_takes_timms_options_and_weights_at_another_size() -> None:
    weights = create_encoder(STEM_VIT).state_dict()
    encoder = create_encoder(STEM_VIT, weights, size=112, in_chans=1, drop_path_rate=0.1)
    assert encoder.patch_embed.num_patches == 49 and type(encoder.blocks[-1].drop_path1).__name__ == "DropPath"
    assert encoder(torch.zeros(2, 1, 112, 112)).shape == (2, 64)
    assert torch.equal(encoder.blocks[5].mlp.fc2.weight, weights["blocks.5.mlp.fc2.weight"])


def test_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*vit_base_patch16_224"):
        create_encoder("vit_base_patch16_2244")


@pytest.mark.parametrize("name", ["hf-hub:timm/vit_base_patch16_224.augreg_in21k", "local-dir:weights", ""])
def test_nothing_is_fetched_from_a_hub(name: str) -> None:
    with pytest.raises(ConfigError, match="no encoder is called"):
        create_encoder(name)


def test_input_size_is_fixed_in_the_graph() -> None:
    assert not create_encoder("test_vit").dynamic_img_size

"""ViTs that leave out empty patches, in PyTorch: no token attends to one, and who cannot be one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import PreprocessSpec
from export.checkpoint import load_checkpoint, save_checkpoint
from export.encoder_weights import load_encoder
from export.encoders import create_encoder
from export.model import DTViT, normalise
from export.stem_vit import STEM_VIT
from export.trimmed import TrimmedViT, empty_patches
from export.untrained import untrained_model
from tests.support.bordered import bordered
from tests.support.small_bundle import SMALL_VIT

TRIMMED_VIT = f"trimmed_{SMALL_VIT}"
MOST = 1e-12  # in float64, for sums in another order
FORMS: dict[str, tuple[str, dict[str, object]]] = {
    "plain": (TRIMMED_VIT, {"depth": 2}),
    "register tokens": (TRIMMED_VIT, {"depth": 2, "reg_tokens": 3}),
    "patch 14": (TRIMMED_VIT, {"depth": 2, "patch_size": 14}),
    "norm before, no embedding of the class": (TRIMMED_VIT, {"depth": 2, "pre_norm": True, "no_embed_class": True}),
    "behind convolutions": (f"trimmed_{STEM_VIT}", {"depth": 2}),
}


def encoder_of(form: str) -> TrimmedViT:
    name, options = FORMS[form]
    torch.manual_seed(1)
    encoder = create_encoder(name, **options).double().eval()
    assert isinstance(encoder, TrimmedViT)
    nn.init.normal_(encoder.pos_embed, std=0.5)
    return encoder


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return normalise(torch.from_numpy(bordered()), PreprocessSpec(), dtype)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_class_token_is_that_of_a_vit_that_computes_the_other_patches_alone(form: str) -> None:
    encoder, x = encoder_of(form), images()
    kept = ~empty_patches(x, encoder.patch_embed.grid_size).flatten(1)
    assert kept.sum(1).tolist()[2:] == [0, 0, kept.shape[1]] and 0 < kept[0].sum() < kept.shape[1]
    for row, features in enumerate(encoder(x)):
        tokens = encoder._pos_embed(encoder.patch_embed(x[row : row + 1]))
        prefix = encoder.num_prefix_tokens
        tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:][:, kept[row]]], 1)
        for block in nn.Sequential(encoder.norm_pre, *encoder.blocks):
            tokens = block(tokens)
        assert (encoder.norm(tokens)[0, 0] - features).abs().max() <= MOST


@torch.no_grad()
def test_what_is_in_an_empty_patchs_token_changes_nothing() -> None:
    encoder, x = encoder_of("plain"), images()
    before = encoder(x)
    empty = empty_patches(x, encoder.patch_embed.grid_size).flatten(1)
    encoder.patch_embed.register_forward_hook(
        lambda module, inputs, tokens: torch.where(empty[..., None], torch.randn_like(tokens) * 9, tokens)
    )
    assert torch.equal(encoder(x), before)


@torch.no_grad()
def test_a_slice_of_one_value_has_a_finite_answer_whichever_value() -> None:
    features = encoder_of("plain")(images())
    assert features.isfinite().all() and torch.equal(features[2], features[3])


@torch.no_grad()
def test_without_an_empty_patch_it_is_the_plain_vit_of_the_same_weights() -> None:
    encoder, x = encoder_of("plain"), images()
    plain = create_encoder(SMALL_VIT, depth=2).double().eval()
    plain.load_state_dict(encoder.state_dict())
    assert type(plain) is not TrimmedViT
    apart = (plain(x) - encoder(x)).abs().amax(1)
    assert apart[4] <= MOST and (apart[:4] > 1e-6).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_which_patches_are_empty_is_seen_in_the_first_channel_before_and_after_normalisation(channels: int) -> None:
    pixels = bordered(channels)
    by_hand = pixels[:, 0].reshape(-1, 14, 16, 14, 16).max((2, 4)) <= pixels[:, 0].min((1, 2))[:, None, None]
    spec = PreprocessSpec(mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    floats = torch.from_numpy(pixels)
    for x in (floats.float(), normalise(floats[:, :1], spec), normalise(floats[:, :1], spec, torch.float64)):
        assert np.array_equal(empty_patches(x, (14, 14))[:, 0].numpy(), by_hand)


def test_intermediate_tokens_are_masked_too() -> None:
    encoder, x = encoder_of("plain"), images()
    last, (tokens,) = encoder.forward_intermediates(x, indices=[0], output_fmt="NLC")
    assert tokens.shape == (5, 196, 64)
    assert (encoder.forward_head(last, pre_logits=True) - encoder(x)).abs().max() <= MOST


def test_it_is_trained_in_bfloat16_by_fused_attention() -> None:
    encoder = create_encoder(TRIMMED_VIT, depth=2).train()
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(images(torch.float32))
    features.float().square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert encoder.patch_embed.proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("trimmed_resnet18", {}, "this is a ResNet; 'resnet18' is its name with all patches"),
        ("trimmed_alexnet", {}, "this is a AlexNet"),
        ("trimmed_deit_tiny_distilled_patch16_224", {}, "this is a VisionTransformerDistilled"),
        (TRIMMED_VIT, {"global_pool": "avg"}, "the pooling of this one is 'avg'"),
        (TRIMMED_VIT, {"global_pool": "avg", "class_token": False}, "the pooling of this one is 'avg'"),
        (TRIMMED_VIT, {"patch_drop_rate": 0.5}, "leaves out patches by chance"),
        (f"trimmed_{TRIMMED_VIT}", {}, "this is a TrimmedViT"),
        ("trimmed_vit_huge", {}, "no encoder is called 'vit_huge'"),
    ],
)
def test_what_is_no_plain_vit_with_a_class_token_is_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        create_encoder(name, **options)


def test_a_checkpoint_says_which_it_is_and_a_plain_one_may_only_start_a_training(tmp_path: Path) -> None:
    trimmed, plain = tmp_path / "trimmed.safetensors", tmp_path / "plain.safetensors"
    save_checkpoint(untrained_model(TRIMMED_VIT), trimmed, training="synthetic")
    save_checkpoint(untrained_model(SMALL_VIT), plain, training="synthetic")
    model = load_checkpoint(trimmed).model
    assert model.encoder_name == TRIMMED_VIT and isinstance(model.encoder, TrimmedViT)
    with pytest.raises(CheckpointError, match=f"its metadata says encoder '{SMALL_VIT}', --encoder says"):
        load_checkpoint(plain, TRIMMED_VIT)
    with pytest.raises(CheckpointError, match="its metadata says encoder"):
        load_checkpoint(trimmed, SMALL_VIT, to_train=True)
    started = load_checkpoint(plain, TRIMMED_VIT, to_train=True).model
    assert started.encoder_name == TRIMMED_VIT and isinstance(started.encoder, TrimmedViT)
    assert type(load_checkpoint(plain, SMALL_VIT, to_train=True).model.encoder) is not TrimmedViT


def test_an_encoders_weights_alone_start_it_too(tmp_path: Path) -> None:
    weights = create_encoder(SMALL_VIT).state_dict()
    torch.save(weights, tmp_path / "encoder.pt")
    model = DTViT(TRIMMED_VIT)
    load_encoder(model, tmp_path / "encoder.pt")
    assert isinstance(model.encoder, TrimmedViT)
    assert torch.equal(model.encoder.blocks[3].mlp.fc1.weight, weights["blocks.3.mlp.fc1.weight"])

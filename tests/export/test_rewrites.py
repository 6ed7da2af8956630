"""Both rewrites change no logit, and leave the caller's model alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dtvit_edge.spec import PreprocessSpec
from export._torchvision import timm
from export.model import DTViT, normalise
from export.rewrites import CLASS_TOKEN, NORMALISATION, Rewritten, rewrite
from export.stem_vit import STEM_VIT
from export.untrained import untrained_model
from tests.support.encoders import THREE_WINDOWS, vit

Pixels = Callable[..., NDArray[np.uint8]]
SPEC = PreprocessSpec()

VITS = {
    "plain": {},
    "layer scale": {"init_values": 0.5},
    "q and k norm": {"qk_norm": True},
    "no qkv bias": {"qkv_bias": False},
    "register tokens": {"reg_tokens": 4},
    "patch 14": {"patch_size": 14},
    "norm before": {"pre_norm": True},
    "attention norm": {"scale_attn_norm": True},
}


def difference(model: DTViT, rewritten: Rewritten, pixels: NDArray[np.uint8], spec: PreprocessSpec) -> float:
    with torch.no_grad():
        expected = model(normalise(torch.from_numpy(pixels), spec))
        outputs = rewritten.module(torch.from_numpy(pixels))
    return max(float((a - b).abs().max()) for a, b in zip(expected, outputs, strict=True))


@pytest.mark.parametrize("spec", [SPEC, THREE_WINDOWS], ids=["one window", "three windows"])
@pytest.mark.parametrize("options", VITS.values(), ids=VITS.keys())
def test_vit_is_rewritten_exactly(options: dict[str, object], spec: PreprocessSpec, make_pixels: Pixels) -> None:
    model = vit(**options)
    rewritten = rewrite(model, spec)
    assert rewritten.report[NORMALISATION]["applied"] and rewritten.report[CLASS_TOKEN]["applied"]
    assert difference(model, rewritten, make_pixels(3, spec.channels), spec) <= 1e-5
    conv = rewritten.module.model.encoder.patch_embed.proj
    assert conv.weight.shape[1] == spec.channels


@pytest.mark.parametrize("spec", [SPEC, THREE_WINDOWS], ids=["one window", "three windows"])
def test_the_vit_behind_convolutions_is_rewritten_exactly(spec: PreprocessSpec, make_pixels: Pixels) -> None:
    model = untrained_model(STEM_VIT)
    rewritten = rewrite(model, spec)
    assert rewritten.report[NORMALISATION]["applied"] and rewritten.report[CLASS_TOKEN]["applied"]
    assert difference(model, rewritten, make_pixels(3, spec.channels), spec) <= 1e-5


@pytest.mark.parametrize("switched", [{"fold": False}, {"class_token": False}], ids=["no fold", "no class token"])
def test_each_rewrite_stands_alone(switched: dict[str, bool], make_pixels: Pixels) -> None:
    model = vit(init_values=0.5)
    rewritten = rewrite(model, SPEC, **switched)
    assert sorted(entry["applied"] for entry in rewritten.report.values()) == [False, True]
    assert difference(model, rewritten, make_pixels(2), SPEC) <= 1e-5


def test_last_block_computes_one_token() -> None:
    model = vit()
    block = rewrite(model, SPEC).module.model.encoder.blocks[-1]
    seen: list[torch.Size] = []
    block.block.mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with torch.no_grad():
        assert block(torch.zeros(2, 197, 48)).shape == (2, 1, 48)
    assert seen == [(2, 1, 48)]


NOT_CUT = {
    "average": ({"global_pool": "avg"}, "pooling is 'avg'"),
    "attention pooling": ({"global_pool": "map"}, "pooling is"),
    "parallel block": (
        {"block_fn": timm.models.vision_transformer.ParallelScalingBlock},
        "last block is a ParallelScalingBlock",
    ),
}


@pytest.mark.parametrize(("options", "why"), NOT_CUT.values(), ids=NOT_CUT.keys())
def test_class_token_is_left_out_and_said(options: dict[str, object], why: str, make_pixels: Pixels) -> None:
    model = vit(**options)
    rewritten = rewrite(model, SPEC)
    assert not rewritten.report[CLASS_TOKEN]["applied"]
    assert why in rewritten.report[CLASS_TOKEN]["why"]
    assert difference(model, rewritten, make_pixels(2), SPEC) <= 1e-5


@pytest.mark.parametrize("spec", [SPEC, THREE_WINDOWS], ids=["one window", "three windows"])
@pytest.mark.parametrize("name", ["resnet18", "test_resnet", "alexnet"])
def test_padding_keeps_normalisation_in_nodes(name: str, spec: PreprocessSpec, make_pixels: Pixels) -> None:
    model = untrained_model(name)
    rewritten = rewrite(model, spec)
    assert not rewritten.report[NORMALISATION]["applied"]
    assert "pads by" in rewritten.report[NORMALISATION]["why"]
    assert difference(model, rewritten, make_pixels(2, spec.channels), spec) <= 1e-5


def test_first_convolution_that_sees_something_else_is_not_folded(make_pixels: Pixels) -> None:
    model = vit()

    class Shifted(torch.nn.Module):
        def __init__(self, encoder: torch.nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.encoder(2.0 * x - 1.0)
            return out

    model.encoder = Shifted(model.encoder)
    rewritten = rewrite(model, SPEC)
    assert "0 convolutions read the input" in rewritten.report[NORMALISATION]["why"]
    assert difference(model, rewritten, make_pixels(2), SPEC) <= 1e-5


def test_folding_over_padding_would_show(make_pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above can fail: fold where the convolution pads."""
    model = untrained_model("test_resnet")
    convs = [m for m in copy.deepcopy(model).encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert any(convs[0].padding)
    monkeypatch.setattr(
        "export.rewrites._foldable_convolution",
        lambda encoder, channels, side: (next(m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)), ""),
    )
    assert difference(model, rewrite(model, SPEC), make_pixels(2), SPEC) > 1e-4


def test_callers_model_is_left_alone() -> None:
    model = vit()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fused = model.encoder.blocks[0].attn.fused_attn
    rewrite(model, SPEC)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.encoder.blocks[0].attn.fused_attn == fused
    assert model.encoder.patch_embed.proj.in_channels == 3

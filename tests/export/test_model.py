"""DTViT: two heads whose sizes are read off the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dtvit_edge.errors import CheckpointError
from dtvit_edge.spec import PreprocessSpec
from export.model import DTViT, HeadLayout, normalise
from tests.support.encoders import THREE_WINDOWS
from tests.support.small_bundle import SMALL_VIT


def test_outputs_are_two_and_three_logits() -> None:
    model = DTViT(SMALL_VIT, HeadLayout((), (0,)), HeadLayout((8, 4), (0, 2, 4))).eval()
    with torch.no_grad():
        ich, location = model(torch.zeros(2, 3, 224, 224))
    assert ich.shape == (2, 2) and location.shape == (2, 3)


@pytest.mark.parametrize(
    "layout",
    [HeadLayout((), (0,)), HeadLayout(), HeadLayout((9, 5), (0, 2, 4)), HeadLayout((9,), (1, 4))],
    ids=["linear", "default", "two hidden", "with dropout between"],
)
def test_layout_is_read_back_from_its_own_weights(layout: HeadLayout) -> None:
    shapes = {f"ich_head.{k}": tuple(v.shape) for k, v in layout.build(7, 2).state_dict().items()}
    assert HeadLayout.from_shapes("ich_head", shapes) == layout


def test_gelu_stands_between_linear_layers_and_not_after_the_last() -> None:
    kinds = [type(layer).__name__ for layer in HeadLayout((9,), (0, 3)).build(7, 2)]
    assert kinds == ["Linear", "GELU", "Identity", "Linear"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "no ich_head in this checkpoint"),
        ({"ich_head.weight": (2, 7)}, "expected keys like ich_head.0.weight"),
        ({"ich_head.0.weight": (7,)}, "Linear layers only"),
        ({"ich_head.0.weight": (7, 7), "ich_head.1.weight": (2, 7)}, "a GELU has to fit"),
        ({"ich_head.0.weight": (7, 7), "ich_head.999999.weight": (2, 7)}, "a GELU has to fit"),
    ],
    ids=["absent", "no index", "not linear", "nothing between", "far apart"],
)
def test_heads_that_are_no_mlp_are_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        HeadLayout.from_shapes("ich_head", shapes)


@pytest.mark.parametrize("spec", [PreprocessSpec(), THREE_WINDOWS], ids=["one window", "three windows"])
def test_normalisation_is_that_of_the_paper(spec: PreprocessSpec) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, spec.channels, 4, 4), dtype=np.uint8)
    expected = (np.broadcast_to(pixels, (2, 3, 4, 4)) / 255.0).transpose(0, 2, 3, 1)
    expected = ((expected - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2)
    normalised = normalise(torch.from_numpy(pixels), spec)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.numpy(), expected, atol=1e-6)

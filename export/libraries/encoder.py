"""What recognising an encoder takes and gives, and what all libraries share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from export.weights.parts import require_fit

CHANNELS = 3
# Heads of attention are in no shape. These widths and depths have them by convention (ViT-Ti, S, B, L, H).
USUAL_VITS = {(192, 12): ("tiny", 3), (384, 12): ("small", 6), (768, 12): ("base", 12), (1024, 24): ("large", 16)}
USUAL_VITS |= {(1280, 32): ("huge", 16)}


@dataclass(frozen=True)
class EncoderChoice:
    """What the owner said of the encoder; None and empty where nothing was said. The keys of import.toml's [encoder].

    Attributes:
        library: timm, torchvision or huggingface.
        name: the library's name for it.
        prefix: what its keys begin with, dot included.
        size: side of the input in pixels.
        pool: timm's `global_pool`; for Hugging Face `token`, `avg` or `pooler`.
        num_heads: heads of attention, which no shape shows.
        layer_norm_eps: of every LayerNorm.
        hidden_act: the activation in the encoder's MLPs.
        options: for timm's `create_model`.
    """

    library: str | None = None
    name: str | None = None
    prefix: str | None = None
    size: int | None = None
    pool: str | None = None
    num_heads: int | None = None
    layer_norm_eps: float | None = None
    hidden_act: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """An encoder with its weights.

    Attributes:
        module: (N, channels, size, size) normalised floats to (N, width) features.
        name: for the manifest.
        library: whose names the keys had.
        width: of the features.
        size: side of the input; None where the weights fit any.
        channels: that it was trained with, 1 to 3.
        rest: the tensors that are not its own, by full key: the heads.
        before_heads: layers between the encoder and every head, as `export.heads` names them (a pooler).
        known_activations: by layer's key, what the library computes after it.
        mean, std: the library's normalisation for this name; None where it has none.
    """

    module: nn.Module
    name: str
    library: str
    width: int
    size: int | None
    channels: int
    rest: dict[str, Tensor]
    before_heads: tuple[str, ...] = ()
    known_activations: dict[str, str] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def split(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors behind a prefix, without it, and all others with their full keys."""
    inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    outside = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
    return inside, outside


def prefix_of(tensors: Mapping[str, Tensor], ending: str, *others: str) -> str | None:
    """What stands before `ending` in a key, where the same prefix has all of `others`; the shortest such.

    Raises:
        CheckpointError: two encoders.
    """
    prefixes = [
        key.removesuffix(ending)
        for key in tensors
        if key == ending or key.endswith(f".{ending}")
        if all(f"{key.removesuffix(ending)}{other}" in tensors for other in others)
    ]
    if len(prefixes) > 1:
        raise CheckpointError(
            f"two encoders or more: under {', '.join(map(repr, prefixes))}. Say which under [encoder] in import.toml "
            "(prefix), or give the module itself: --model FILE.py:FACTORY"
        )
    return prefixes[0] if prefixes else None


def load_encoder(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> int:
    """Load weights into an encoder made for three channels; its first convolution is made to fit those of fewer.

    Returns:
        The number of channels that the weights take.

    Raises:
        CheckpointError: missing, unexpected or wrongly shaped weights, all named.
    """
    expected = module.state_dict()
    wrong, channels = [], CHANNELS
    for key in expected.keys() & tensors.keys():
        given, wanted = tuple(tensors[key].shape), tuple(expected[key].shape)
        if given == wanted:
            continue
        if has_fewer_channels(given, wanted):
            channels = given[1]
            convolution: Any = module.get_submodule(key.rpartition(".")[0])
            convolution.in_channels = channels
            convolution.weight = nn.Parameter(torch.empty(given), requires_grad=False)
        else:
            wrong.append(f"{key} {given} instead of {wanted}")
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in tensors if key not in expected]
    require_fit(name, missing, unexpected, sorted(wrong))
    only_shapes = any(parameter.is_meta for parameter in module.parameters())
    module.load_state_dict(tensors, strict=False, assign=only_shapes)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return channels


def has_fewer_channels(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is that of a first convolution for fewer channels than `CHANNELS`."""
    return (
        given[1:2] < wanted[1:2] == (CHANNELS,) and len(given) == 4 and given[:1] + given[2:] == wanted[:1] + wanted[2:]
    )


def grid_side(tokens: int) -> int | None:
    """The side of a square grid of patches; None where the number is no square."""
    side = math.isqrt(tokens)
    return side if side * side == tokens else None


def heads_of(choice: EncoderChoice, width: int, depth: int) -> tuple[int, bool]:
    """Heads of attention and whether they were said.

    Raises:
        CheckpointError: nobody says, and no convention does.
        ConfigError: they do not divide the width.
    """
    if choice.num_heads is not None:
        if choice.num_heads < 1 or width % choice.num_heads:
            raise ConfigError(f"[encoder] num_heads is {choice.num_heads}, which does not divide the width of {width}")
        return choice.num_heads, True
    if (width, depth) not in USUAL_VITS:
        raise CheckpointError(
            f"a ViT of width {width} and depth {depth}: how many heads of attention it has is in no tensor; give "
            "--encoder NAME, or num_heads under [encoder] in import.toml"
        )
    return USUAL_VITS[width, depth][1], False

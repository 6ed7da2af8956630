"""Other libraries' ViTs as timm's VisionTransformer, which computes the same: one qkv Linear instead of three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from export._torchvision import timm
from export.libraries.encoder import EncoderChoice, grid_side

# The activations of an encoder's MLPs, by the names that configurations have for them.
HIDDEN_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_python": nn.GELU,
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": timm.layers.QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


def build_vit(
    state: Mapping[str, Tensor],
    *,
    num_heads: int,
    eps: float,
    hidden_act: str = "gelu",
    registers: int = 0,
    choice: EncoderChoice,
    name: str,
) -> tuple[nn.Module, int]:
    """A timm VisionTransformer of the shapes in a state dict with timm's names, without weights yet, and its size.

    Args:
        registers: tokens beside the class token that share the position embedding (a distillation token).

    Raises:
        CheckpointError: a position embedding that is no square of patches.
        ConfigError: an activation that is not known, or another size than the position embedding is for.
    """
    projection = state["patch_embed.proj.weight"]
    width, patch = projection.shape[0], projection.shape[2]
    tokens = state["pos_embed"].shape[1] - 1 - registers
    side = grid_side(tokens)
    if side is None or projection.shape[2] != projection.shape[3]:
        raise CheckpointError(
            f"{name}: {tokens} patches of {tuple(projection.shape[2:])}; only square inputs and patches are taken"
        )
    size = side * patch
    if choice.size is not None and choice.size != size:
        raise ConfigError(
            f"[encoder] size is {choice.size}, the position embedding is for {size} ({side} x {side} "
            f"patches of {patch})"
        )
    module = timm.models.vision_transformer.VisionTransformer(
        img_size=size,
        patch_size=patch,
        num_classes=0,
        embed_dim=width,
        depth=depth_of(state),
        num_heads=num_heads,
        mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        reg_tokens=registers,
        norm_layer=partial(nn.LayerNorm, eps=eps),
        act_layer=activation_of(hidden_act),
        weight_init="skip",
    )
    return module.eval(), size


def activation_of(name: str) -> Callable[[], nn.Module]:
    """What makes the activation of that name; a ConfigError where none is known."""
    if name not in HIDDEN_ACTIVATIONS:
        raise ConfigError(f"hidden_act is {name!r}, expected one of {', '.join(HIDDEN_ACTIVATIONS)}")
    return HIDDEN_ACTIVATIONS[name]


def depth_of(state: Mapping[str, Tensor]) -> int:
    """The number of blocks in a state dict with timm's names."""
    return 1 + max((int(key.split(".")[1]) for key in state if key.startswith("blocks.")), default=-1)

"""torchvision's VisionTransformer (`vit_b_16`, `vit_l_32`, ...), to timm's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dtvit_edge.errors import CheckpointError
from export.findings import Findings
from export.libraries.encoder import USUAL_VITS, Encoder, EncoderChoice, heads_of, load_encoder, prefix_of, split
from export.libraries.vit import build_vit, depth_of
from export.weights.choosing import some

# torchvision's own LayerNorm of every ViT.
_EPS = 1e-6
_TOP = {
    "class_token": "cls_token",
    "conv_proj.weight": "patch_embed.proj.weight",
    "conv_proj.bias": "patch_embed.proj.bias",
    "encoder.pos_embedding": "pos_embed",
    "encoder.ln.weight": "norm.weight",
    "encoder.ln.bias": "norm.bias",
}
_LAYER = re.compile(r"^encoder\.layers\.encoder_layer_(\d+)\.(.+)$")
_PARTS = {
    "ln_1.weight": "norm1.weight",
    "ln_1.bias": "norm1.bias",
    "ln_2.weight": "norm2.weight",
    "ln_2.bias": "norm2.bias",
    "self_attention.in_proj_weight": "attn.qkv.weight",
    "self_attention.in_proj_bias": "attn.qkv.bias",
    "self_attention.out_proj.weight": "attn.proj.weight",
    "self_attention.out_proj.bias": "attn.proj.bias",
    # mlp.0 and mlp.3 are torchvision's since 0.13, linear_1 and linear_2 were before.
    **{
        f"mlp.{old}.{kind}": f"mlp.{new}.{kind}"
        for old, new in (("0", "fc1"), ("3", "fc2"))
        for kind in ("weight", "bias")
    },
    **{
        f"mlp.linear_{number}.{kind}": f"mlp.fc{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")
    },
}  # fmt: skip


def recognise(
    tensors: Mapping[str, Tensor], choice: EncoderChoice, beside: Path | None, findings: Findings
) -> Encoder | None:
    """See `export.libraries`."""
    needed = ("conv_proj.weight", "class_token", "encoder.pos_embedding")
    prefix = choice.prefix if choice.prefix is not None else prefix_of(tensors, *needed)
    if prefix is None or not all(f"{prefix}{key}" in tensors for key in needed):
        return None
    inside, rest = split(tensors, prefix)
    state: dict[str, Tensor] = {}
    odd = []
    for key, value in inside.items():
        layer = _LAYER.match(key)
        if key in _TOP:
            state[_TOP[key]] = value
        elif layer and layer[2] in _PARTS:
            state[f"blocks.{layer[1]}.{_PARTS[layer[2]]}"] = value
        elif key.startswith("encoder."):
            odd.append(key)
        else:
            rest[f"{prefix}{key}"] = value
    if odd or "conv_proj.bias" not in inside:
        raise CheckpointError(f"keys like torchvision's ViT, but {some('are not', odd or ['conv_proj.bias missing'])}")
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = depth_of(state)
    heads, said = heads_of(choice, width, depth)
    (findings.given if said else findings.assumed)("encoder.num_heads", heads)
    eps = choice.layer_norm_eps or _EPS
    (findings.given if choice.layer_norm_eps else findings.read)("encoder.layer_norm_eps", eps)
    letter = USUAL_VITS.get((width, depth), ("", 0))[0][:1]
    name = f"vit_{letter}_{patch}" if letter else f"vit-{width}x{depth}-patch{patch}"
    module, size = build_vit(state, num_heads=heads, eps=eps, choice=choice, name=name)
    channels = load_encoder(module, state, f"torchvision's {name}")
    # `representation_size` puts a Linear and a tanh before the last layer.
    known = {f"{prefix}heads.pre_logits": "tanh"}
    return Encoder(module, f"torchvision/{name}", "torchvision", width, size, channels, rest, known_activations=known)

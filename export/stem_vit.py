"""A small ViT whose patches come from three convolutions instead of one linear layer; loaded, timm knows it by name.

What timm calls a hybrid embedding makes the tokens. The first convolution does not pad, so that normalisation folds
into it; the others see a little beyond their patch's edge, where a linear patch embedding cuts a small bleed in two.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from export._torchvision import timm

STEM_VIT = "dtvit_stem_vit_64"
WIDTH = 64
CHANNELS = (16, 32)  # of the stem, before the tokens' own width

# What timm looks for beside an entry, by its name.
default_cfgs = timm.models.generate_default_cfgs(
    {STEM_VIT: {"input_size": (3, 224, 224), "fixed_input_size": True, "first_conv": "patch_embed.backbone.0"}}
)


@timm.models.register_model  # type: ignore[untyped-decorator]
def dtvit_stem_vit_64(pretrained: bool = False, **options: Any) -> nn.Module:
    """6 blocks, 64 wide, 2 heads, class token; tokens of 16 x 16 pixels. `options` are timm's."""
    first, second = CHANNELS
    stem = nn.Sequential(
        nn.Conv2d(3, first, 4, 4),
        nn.GELU(),
        nn.Conv2d(first, second, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(second, WIDTH, 3, 2, 1),
    )
    shape = {"embed_dim": WIDTH, "depth": 6, "num_heads": 2, "mlp_ratio": 3}
    make = timm.models.vision_transformer_hybrid._create_vision_transformer_hybrid
    vit: nn.Module = make(STEM_VIT, stem, {"proj": False}, pretrained, **{**shape, **options})
    return vit

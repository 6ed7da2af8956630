"""The demo's encoder: a small ViT whose tokens come from three convolutions; once this is loaded, timm knows its name.

What timm calls a hybrid embedding makes the tokens, as many as there are patches of 16 x 16 pixels. Each sees a little
beyond its patch, whose edge cuts a small bleed in two for the one linear layer of a plain ViT.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from export._torchvision import timm

STEM_VIT = "dtvit_stem_vit_64"
CHANNELS = (16, 32)  # of the first two convolutions; the third has the tokens' width
SHAPE = {"patch_size": 1, "embed_dim": 64, "depth": 6, "num_heads": 2, "mlp_ratio": 3}

# What timm looks for in the module of an entry, by its name.
default_cfgs = timm.models.generate_default_cfgs(
    {STEM_VIT: {"input_size": (3, 224, 224), "fixed_input_size": True, "first_conv": "patch_embed.backbone.0"}}
)


@timm.models.register_model  # type: ignore[untyped-decorator]
def dtvit_stem_vit_64(pretrained: bool = False, **options: Any) -> nn.Module:
    """6 blocks, 64 wide, 2 heads, class token; a token for 16 x 16 pixels. `options` are timm's for a ViT."""
    shape = {**SHAPE, **options}
    first, second = CHANNELS
    stem = nn.Sequential(
        # Without padding, so that export can fold normalisation into it.
        nn.Conv2d(shape.get("in_chans", 3), first, 4, 4),
        nn.GELU(),
        nn.Conv2d(first, second, 3, 2, 1),
        nn.GELU(),
        nn.Conv2d(second, shape["embed_dim"], 3, 2, 1),
    )
    vit: nn.Module = timm.models.build_model_with_cfg(
        timm.models.VisionTransformer,
        STEM_VIT,
        pretrained,
        pretrained_filter_fn=timm.models.vision_transformer.checkpoint_filter_fn,
        embed_layer=partial(timm.layers.HybridEmbed, backbone=stem, proj=False),
        **shape,
    )
    return vit

"""ViTs that leave out a slice's empty patches: any plain ViT of timm's by its name with `trimmed_` before it.

A patch is empty where all its pixels have the lowest value of the image: byte 0 outside the head, once the mask took
everything else out. No token attends to an empty patch's token, so that such tokens can as well not be computed, as
`export.trimming` does for CPUs. It is a property of the trained model: one that was trained at full length reads these
tokens. The keys of its weights are the plain ViT's, which may start a training; a checkpoint's name of the encoder
says which of the two it is.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from dtvit_edge.errors import ConfigError
from export._torchvision import timm

PREFIX = "trimmed_"
# What is added to the score of an empty patch, before the softmax. `exp` of it is 0 in every type, float64 too, and
# float16 holds it with any score beside it; infinity would be NaN as soon as something is multiplied by 0.
NEVER = -30000.0


class TrimmedViT(timm.models.VisionTransformer):  # type: ignore[name-defined]
    """timm's VisionTransformer in which no token attends to an empty patch; all of them are computed.

    The class token is attended to always. A slice that is all one value, whichever, has no other.
    """

    def forward_features(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Images (N, C, H, W), normalised or not, to tokens (N, T, D); what those of empty patches say is of no use."""
        tokens: Tensor = super().forward_features(x, attn_mask=self.key_mask(x), is_causal=is_causal)
        return tokens

    def forward_intermediates(self, x: Tensor, *args: Any, **more: Any) -> Any:
        """See timm; of these images, with the same mask."""
        return super().forward_intermediates(x, *args, **{**more, "attn_mask": self.key_mask(x)})

    def key_mask(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, 1, T) in the images' type: `NEVER` for tokens of empty patches, else 0."""
        empty = empty_patches(x, self.patch_embed.grid_size).flatten(1)[:, None, None]
        return pad(empty.to(x.dtype) * NEVER, (self.num_prefix_tokens, 0))


def empty_patches(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which patches show nothing: all their pixels have the lowest value of the image, in the first channel.

    A normalisation changes nothing in it, since it is the same for all pixels and keeps their order.

    Args:
        images: (N, C, H, W) of any floating type that keeps bytes apart.
        grid: rows and columns of patches.

    Returns:
        (N, 1, rows, columns) bool; all True where an image is one value.
    """
    first = images[:, :1]
    sides = (images.shape[2] // grid[0], images.shape[3] // grid[1])
    return max_pool2d(first, sides) <= first.amin((2, 3), keepdim=True)


def trim(encoder: nn.Module, name: str) -> TrimmedViT:
    """Make a plain ViT, with its weights, one that leaves out empty patches.

    Raises:
        ConfigError: it is none, or has no class token that alone is read.
    """
    if reason := _why_not(encoder):
        raise ConfigError(
            f"no encoder is called {name!r}: only timm's plain VisionTransformers with a class token can leave out "
            f"empty patches, and {reason}; {name.removeprefix(PREFIX)!r} is its name with all patches"
        )
    encoder.__class__ = TrimmedViT
    assert isinstance(encoder, TrimmedViT)
    return encoder


def _why_not(encoder: Any) -> str:
    """Why an encoder cannot leave out empty patches; empty where it can."""
    vit = timm.models.vision_transformer
    # Exact types: a subclass may read other tokens or attend in another way.
    if type(encoder) is not vit.VisionTransformer:
        return f"this is a {type(encoder).__name__}"
    if not encoder.has_class_token or encoder.attn_pool is not None or encoder.global_pool != "token":
        return f"the pooling of this one is {encoder.global_pool!r}"
    if not all(type(b) is vit.Block and type(b.attn) is timm.layers.Attention for b in encoder.blocks):
        return f"this one has blocks that are a {type(encoder.blocks[0]).__name__}"
    # `export.trimming` finds the tokens by the first LayerNorm that reads them.
    embedding = encoder.patch_embed
    if not isinstance(encoder.blocks[0].norm1, nn.LayerNorm) or hasattr(getattr(embedding, "norm", None), "weight"):
        return "this one has other norms than a LayerNorm in each block"
    if not isinstance(encoder.patch_drop, nn.Identity):
        return "this one leaves out patches by chance"
    if any(side % count for side, count in zip(embedding.img_size, embedding.grid_size, strict=True)):
        return f"this one's {embedding.img_size} pixels are no multiple of its {embedding.grid_size} patches"
    return ""

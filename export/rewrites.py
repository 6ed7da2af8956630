"""The module that is exported: DTViT behind a uint8 input, with two rewrites that change no result.

(a) Normalisation, the scale from bytes and grey-to-RGB are folded into the encoder's first convolution, where
    it has no padding: padding adds zeros after normalisation, which no weight can express before it.
(b) The last transformer block computes the class token only, where pooling reads the class token: no other
    token of that block is ever read.

What is left out, and why, is in `Rewritten.report`. Both are exact up to float32 rounding; parity proves it
anew for every export.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dtvit_edge.spec import PreprocessSpec
from export._torchvision import timm
from export.model import DTViT
from export.trimmed import TrimmedViT

NORMALISATION = "normalisation_in_first_convolution"
CLASS_TOKEN = "class_token_last_block"


@dataclass(frozen=True)
class Rewritten:
    """A module ready for ONNX and what was done to it.

    Attributes:
        module: `pixels` (N, C, side, side) uint8 to (ich_logits, location_logits), in eval mode.
        report: by rewrite: {"applied": bool, "why": str}.
    """

    module: nn.Module
    report: dict[str, dict[str, Any]]


def rewrite(
    model: DTViT, spec: PreprocessSpec, *, fold: bool = True, class_token: bool = True, own_module: bool = False
) -> Rewritten:
    """Make the exportable module from a copy of `model`, which stays as it is.

    Args:
        fold, class_token: switch a rewrite off, to judge it against the unrewritten graph.
        own_module: the encoder is code of the user's; what cannot be seen to be exact is left out.
    """
    original = model
    # The weights are shared with the original, of which only structure is copied: a ViT-B/16's are 345 MB.
    model = copy.deepcopy(model, {id(tensor): tensor for tensor in model.parameters()}).eval()
    for module in model.modules():
        # Attention as products and a softmax: the fused call exports with shape arithmetic around it and
        # scales both q and k.
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
    report = {}
    front: nn.Module
    conv, why = (
        _foldable_convolution(model.encoder, spec.encoder_channels, spec.crop) if fold else (None, "switched off")
    )
    if conv is not None and own_module and not _folds_exactly(original, spec):
        conv, why = None, "the user's own module reads its input in other places than the first convolution"
    report[NORMALISATION] = {"applied": conv is not None, "why": why}
    if conv is None:
        front = _Normalise(spec)
    else:
        front = _Widen()
        _fold_normalisation(conv, spec)
    reason = _no_class_token(model.encoder) if class_token else "switched off"
    if own_module:
        reason = "which tokens the user's own module reads is not known"
    report[CLASS_TOKEN] = {"applied": not reason, "why": reason or "pooling reads the class token alone"}
    if not reason:
        blocks: nn.Sequential = model.encoder.blocks  # type: ignore[assignment]
        blocks[-1] = ClassTokenBlock(blocks[-1])
    return Rewritten(_Exportable(front, model).eval(), report)


class ClassTokenBlock(nn.Module):
    """A timm ViT block that returns its first token only: (N, T, D) to (N, 1, D).

    `attn_mask`, (N, 1, 1, T), is added to the scores, as timm's block does.

    The query is computed for the class token, keys and values (one Linear) for all tokens, from the slices of
    the block's qkv weight.
    """

    def __init__(self, block: nn.Module) -> None:
        """Take over a timm `Block` with its `Attention`."""
        super().__init__()
        attn: Any = block.attn
        dim = attn.num_heads * attn.head_dim
        weight, bias = attn.qkv.weight.detach(), attn.qkv.bias
        self.q = _linear(weight[:dim], None if bias is None else bias.detach()[:dim])
        self.kv = _linear(weight[dim:], None if bias is None else bias.detach()[dim:])
        self.block: Any = block
        self.attn: Any = attn

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """See the class."""
        block, attn = self.block, self.attn
        heads, width = attn.num_heads, attn.head_dim
        y = block.norm1(x)
        q = self.q(y[:, :1]).reshape(-1, 1, heads, width).transpose(1, 2)
        k, v = self.kv(y).reshape(-1, y.shape[1], 2, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = attn.q_norm(q) * attn.scale, attn.k_norm(k)
        scores = q @ k.transpose(-2, -1)
        if attn_mask is not None:
            scores = scores + attn_mask
        z = scores.softmax(dim=-1) @ v
        z = attn.proj(attn.norm(z.transpose(1, 2).reshape(-1, 1, heads * width)))
        x = x[:, :1] + block.ls1(z)
        out: Tensor = x + block.ls2(block.mlp(block.norm2(x)))
        return out


class _Exportable(nn.Module):
    """`front` turns bytes into what the encoder's first layer takes; DTViT does the rest."""

    def __init__(self, front: nn.Module, model: DTViT) -> None:
        super().__init__()
        self.front, self.model = front, model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.model(self.front(pixels))
        return result


class _Widen(nn.Module):
    """Bytes as float32, nothing else; the folded convolution does the rest."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.to(torch.float32)


class _Normalise(nn.Module):
    """(N, C, H, W) uint8 to (N, E, H, W) normalised float32; one channel becomes E by broadcasting."""

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: PreprocessSpec) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(spec)
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1))
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.to(torch.float32) * self.scale + self.shift


def _scale_and_shift(spec: PreprocessSpec) -> tuple[Tensor, Tensor]:
    """float64 (E,) each, with normalised = byte * scale + shift."""
    mean = torch.tensor(spec.mean, dtype=torch.float64)
    std = torch.tensor(spec.std, dtype=torch.float64)
    return 1.0 / (255.0 * std), -mean / std


def _fold_normalisation(conv: nn.Conv2d, spec: PreprocessSpec) -> None:
    """Make `conv` take bytes: (out, C, kh, kw) weights with C = `spec.channels`, in place."""
    scale, shift = _scale_and_shift(spec)
    weight = conv.weight.detach().double()
    bias = torch.zeros(conv.out_channels).double() if conv.bias is None else conv.bias.detach().double()
    bias = bias + (weight * shift.view(1, -1, 1, 1)).sum(dim=(1, 2, 3))
    weight = weight * scale.view(1, -1, 1, 1)
    if spec.channels == 1:
        weight = weight.sum(dim=1, keepdim=True)
    conv.in_channels = spec.channels
    conv.weight = nn.Parameter(weight.float(), requires_grad=False)
    conv.bias = nn.Parameter(bias.float(), requires_grad=False)


# Of the largest logit: float32's rounding is far below, a module that reads its input twice far above.
_FOLD_TOLERANCE = 1e-4


def _folds_exactly(model: DTViT, spec: PreprocessSpec) -> bool:
    """Whether the folded module answers as the unfolded one does, on bytes at random."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, spec.channels, spec.crop, spec.crop)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    plain = rewrite(model, spec, fold=False, class_token=False).module
    folded = rewrite(model, spec, class_token=False).module
    try:
        with torch.no_grad():
            pairs = list(zip(plain(pixels), folded(pixels), strict=True))
    except RuntimeError:
        return False
    return all(float((a - b).abs().max()) <= _FOLD_TOLERANCE * float(a.abs().max()) for a, b in pairs)


def _foldable_convolution(encoder: nn.Module, channels: int, side: int) -> tuple[nn.Conv2d | None, str]:
    """The convolution that alone reads the encoder's input, without padding; else None. And why."""
    probe = torch.zeros(1, channels, side, side)
    probe[..., 0] = 1.0  # not constant, so that padding or rescaling before the convolution shows
    seen: list[tuple[nn.Conv2d, Tensor]] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: seen.append((module, args[0])))
        for module in encoder.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            encoder(probe)
    finally:
        for handle in handles:
            handle.remove()
    readers = [conv for conv, x in seen if x.shape == probe.shape and torch.equal(x, probe)]
    if len(readers) != 1:
        return None, f"{len(readers)} convolutions read the input itself"
    conv = readers[0]
    if type(conv) is not nn.Conv2d:
        return None, f"the first convolution is a {type(conv).__name__}"
    if conv.padding == "same" or (conv.padding != "valid" and any(conv.padding)):
        return None, f"the first convolution pads by {conv.padding}; normalisation stays in nodes of its own"
    if conv.groups != 1:
        return None, f"the first convolution has {conv.groups} groups"
    return conv, "the first convolution has no padding"


def _no_class_token(encoder: nn.Module) -> str:
    """Why the last block cannot be cut down to the class token; empty where it can."""
    vit = timm.models.vision_transformer
    # Exact types: a subclass may read other tokens (the distilled ViT) or attend in another way.
    if type(encoder) not in (vit.VisionTransformer, TrimmedViT):
        return f"the encoder is a {type(encoder).__name__}, not timm's plain VisionTransformer"
    if encoder.attn_pool is not None or encoder.global_pool != "token":
        return f"pooling is {encoder.global_pool or 'attention'!r}, which reads every token"
    block: Any = encoder.blocks[-1]
    if type(block) is not vit.Block or type(block.attn) is not timm.layers.Attention:
        attention = type(getattr(block, "attn", None)).__name__
        return f"the last block is a {type(block).__name__} with {attention} as its attention"
    if getattr(block.attn, "gate", None) is not None:
        return "the last block's attention is gated"
    if not isinstance(block.mlp, (timm.layers.Mlp, timm.layers.GluMlp, timm.layers.SwiGLU)):
        return f"the last block's MLP is a {type(block.mlp).__name__}"
    return ""


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear of these (out, in) weights."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.clone(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.clone(), requires_grad=False)
    return linear

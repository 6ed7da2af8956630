"""Dual-task models as their users write them around small encoders of other libraries, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from export._torchvision import timm, torchvision

SIDE = 32
ICH, LOCATION, FOUR = 2, 3, 4


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in eval mode with seeded values in every weight, norms' statistics included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(noise.abs() + 0.5)
            elif "norm" in name.lower() or "bn" in name or ".ln" in name or "ln_" in name:
                value.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
            else:
                fan = value[0].numel() if value.ndim > 1 else 16
                value.copy_(noise * (1.5 / fan**0.5))
    return module.eval()


class Dual(nn.Module):
    """An encoder and two heads; `features` turns what the encoder returns into (N, F)."""

    def __init__(
        self,
        encoder: nn.Module,
        ich: nn.Module | None,
        location: nn.Module | None,
        features: Callable[[Any], Tensor] = lambda out: out,
        names: tuple[str, str, str] = ("backbone", "ich_head", "location_head"),
    ) -> None:
        super().__init__()
        self.names, self.features = names, features
        for name, module in zip(names, (encoder, ich, location), strict=True):
            if module is not None:
                self.add_module(name, module)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.features(getattr(self, self.names[0])(x))
        return tuple(getattr(self, name)(features) for name in self.names[1:] if hasattr(self, name))


def mlp(
    width: int, outputs: int, activation: nn.Module, *, norm: nn.Module | None = None, drop: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(width, 12)]
    if norm is not None:
        layers.append(norm)
    layers.append(activation)
    if drop:
        layers.append(nn.Dropout(0.3))
    return nn.Sequential(*layers, nn.Linear(12, outputs))


def timm_vit(**options: Any) -> nn.Module:
    return timm.create_model("test_vit", **{"img_size": SIDE, "num_classes": 0, **options})


def torchvision_vit(**options: Any) -> nn.Module:
    settings = {"image_size": SIDE, "patch_size": 16, "num_layers": 2, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 96}
    return torchvision.models.VisionTransformer(**{**settings, **options})


def huggingface(kind: str, **options: Any) -> nn.Module:
    transformers = __import__("transformers")
    config = transformers.DeiTConfig if kind.startswith("DeiT") else transformers.ViTConfig
    pooling = {"add_pooling_layer": options.pop("pooler")} if "pooler" in options else {}
    settings = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 96,
        "image_size": SIDE,
    }
    module: nn.Module = getattr(transformers, kind)(config(**{**settings, **options}), **pooling)
    return module


def resnet(fc: nn.Module, **options: Any) -> nn.Module:
    model: Any = torchvision.models.resnet18(**options)
    model.fc = fc
    return model


def answers(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The user's own module in float64 as the two outputs that a bundle has: (N, 2), and (N, 3) or None."""
    with torch.no_grad():
        result = module.double()(x.double())
    result = getattr(result, "logits", result)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    if len(outputs) == 1 and outputs[0].shape[1] == FOUR:
        four = outputs[0]
        return torch.cat([four[:, :1], four[:, 1:].logsumexp(1, keepdim=True)], 1), four[:, 1:]
    ich = outputs[0]
    if ich.shape[1] == 1:
        ich = torch.cat([torch.zeros_like(ich), ich], 1)
    return ich, outputs[1] if len(outputs) > 1 else None

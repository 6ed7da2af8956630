"""Image encoders: any of timm's, torchvision's AlexNet, ours of `stem_vit` and `trimmed`; never downloaded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dtvit_edge.errors import ConfigError
from export import stem_vit  # noqa: F401 - timm knows its encoder from here on
from export._torchvision import timm, torchvision
from export.trimmed import PREFIX, trim

INPUT_SIZE = 224
DEFAULT_ENCODER = "vit_base_patch16_224"
ALEXNET = "alexnet"


def create_encoder(
    name: str, weights: Mapping[str, Tensor] | None = None, *, size: int = INPUT_SIZE, **more: Any
) -> nn.Module:
    """An encoder without logits: (N, 3, size, size) float32 to pooled features (N, F).

    ViT pools as timm's entry of that name says (the class token for `vit_base_patch16_224`); AlexNet and VGG
    give the 4,096 values that their last layer would take. `trimmed_` before a plain ViT's name leaves out empty
    patches (`export.trimmed`).

    Args:
        weights: with timm's names, adapted by it to this size of image; None gives fresh ones.
        size: side of the input; most convolutional networks take any.
        more: for timm's `create_model`.

    Raises:
        ConfigError: no such encoder; the message names the closest ones.
    """
    if name.startswith(PREFIX):
        return trim(create_encoder(timm_name(name), weights, size=size, **more), name)
    if name == ALEXNET:
        if more:
            raise ConfigError(f"torchvision's {ALEXNET} has no {', '.join(more)}")
        alexnet: Any = torchvision.models.alexnet(weights=None)
        if weights is not None:
            alexnet.load_state_dict(weights)
        alexnet.classifier[-1] = nn.Identity()
        model: nn.Module = alexnet
        return model
    # A name with a scheme ("hf-hub:...") would make timm fetch a configuration from the network.
    if ":" in name or not timm.is_model(name):
        close = difflib.get_close_matches(name, [ALEXNET, *timm.list_models()], n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else "; timm.list_models() lists them"
        raise ConfigError(f"no encoder is called {name!r}{hint}")
    config = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"num_classes": 0, "pretrained": weights is not None, **more}
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": dict(weights)}
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    encoder: nn.Module = timm.create_model(name, **options)
    if getattr(encoder, "dynamic_img_size", False):
        # It would put the resampling of the position embedding into the graph.
        encoder = timm.create_model(name, dynamic_img_size=False, **options)
    return encoder


def timm_name(name: str) -> str:
    """The name under which timm knows an encoder's configuration: that of one with all patches."""
    return name.removeprefix(PREFIX)


def feature_width(encoder: nn.Module) -> int:
    """F, the width of the features that `create_encoder`'s module returns."""
    if isinstance(encoder, torchvision.models.AlexNet):
        return 4096
    # The width before the classifier where that differs from the feature map's (VGG), else the latter.
    return int(getattr(encoder, "head_hidden_size", None) or encoder.num_features)  # type: ignore[arg-type]

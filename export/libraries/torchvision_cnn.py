"""torchvision's ResNet, VGG and AlexNet, recognised by their keys and run as torchvision's own modules.

timm's ResNet has the same names and computes the same. A ResNet whose children were put into an `nn.Sequential`
without the last (`list(resnet.children())[:-1]`) is recognised as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError
from export._torchvision import torchvision
from export.findings import Findings
from export.libraries.encoder import Encoder, EncoderChoice, has_fewer_channels, load_encoder, prefix_of, split

RESNETS: tuple[str, ...] = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
RESNETS += ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
VGGS = tuple(f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn"))
ALEXNET = "alexnet"
# torchvision's ImageNet weights of these.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The children of a ResNet in order, as an nn.Sequential numbers them; 2, 3 and 8 hold no weights.
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def recognise(
    tensors: Mapping[str, Tensor], choice: EncoderChoice, beside: Path | None, findings: Findings
) -> Encoder | None:
    """See `export.libraries`."""
    return _resnet(tensors, choice) or _with_classifier(tensors, choice)


def _resnet(tensors: Mapping[str, Tensor], choice: EncoderChoice) -> Encoder | None:
    needed = ("layer1.0.conv1.weight", "conv1.weight", "bn1.running_mean", "layer4.0.conv1.weight")
    prefix = _prefix(tensors, choice, needed)
    numbered = False
    if prefix is None:
        needed = ("4.0.conv1.weight", "0.weight", "1.running_mean", "7.0.conv1.weight")
        prefix, numbered = _prefix(tensors, choice, needed), True
    if prefix is None:
        return None
    inside, rest = split(tensors, prefix)
    if numbered:
        inside = {_named_child(key): value for key, value in inside.items()}
    state = {key: value for key, value in inside.items() if re.match(r"(conv1|bn1|layer[1-4])\.", key)}
    rest |= {f"{prefix}{key}": value for key, value in inside.items() if key not in state}
    none = f"keys of a ResNet, but of none of torchvision's ({', '.join(RESNETS)})"
    return _first_that_fits(RESNETS, state, rest, choice, f"{none}; of another of timm's give --encoder NAME")


def _with_classifier(tensors: Mapping[str, Tensor], choice: EncoderChoice) -> Encoder | None:
    """VGG and AlexNet: the features are what their last Linear would read."""
    needed = ("features.0.weight", "classifier.1.weight", "classifier.4.weight")
    name_of: tuple[str, ...] = (ALEXNET,)
    prefix = _prefix(tensors, choice, needed)
    if prefix is None or len(tensors[f"{prefix}features.0.weight"].shape) != 4:
        needed = ("features.0.weight", "classifier.0.weight", "classifier.3.weight")
        name_of = VGGS
        prefix = _prefix(tensors, choice, needed)
    if prefix is None or tensors[f"{prefix}features.0.weight"].ndim != 4:
        return None
    inside, rest = split(tensors, prefix)
    kept = {key.removesuffix(".weight") for key in needed[1:]}
    state = {
        key: value for key, value in inside.items() if key.startswith("features.") or key.rpartition(".")[0] in kept
    }
    rest |= {f"{prefix}{key}": value for key, value in inside.items() if key not in state}
    none = f"keys like torchvision's {name_of[0]}, but the shapes are none of its kin"
    return _first_that_fits(name_of, state, rest, choice, f"{none}; give the module itself, --model FILE.py:FACTORY")


def _first_that_fits(
    names: tuple[str, ...], state: dict[str, Tensor], rest: dict[str, Tensor], choice: EncoderChoice, none: str
) -> Encoder | None:
    """The encoder of the first name with these keys and shapes, without its last layer.

    Raises:
        CheckpointError: no name fits and none was given; with the words `none`.
    """
    for name in names if choice.name is None else {choice.name} & set(names):
        module = _empty(name)
        if name in RESNETS:
            module.fc = nn.Identity()
        else:
            module.classifier[-1] = nn.Identity()
        if _fits(module, state):
            return _loaded(name, module, state, rest, choice)
    if choice.name is None:
        raise CheckpointError(none)
    return None


def _loaded(
    name: str, module: nn.Module, state: dict[str, Tensor], rest: dict[str, Tensor], choice: EncoderChoice
) -> Encoder:
    """The encoder with its weights in place of the shapes alone, which spares making others first (VGG: 20 s)."""
    counters = {key: torch.tensor(0) for key in module.state_dict() if key.endswith("num_batches_tracked")}
    channels = load_encoder(module, counters | state, f"torchvision's {name}")
    width = 512 if name in RESNETS[:2] else 2048 if name in RESNETS else 4096
    return Encoder(module.eval(), name, "torchvision", width, choice.size, channels, rest, mean=_MEAN, std=_STD)


def _empty(name: str) -> Any:
    """The model's shapes without memory."""
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None)


def _fits(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether keys and shapes are a module's, the first convolution's channels aside."""
    expected, given = (
        {key: tuple(value.shape) for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
        for tensors in (module.state_dict(), state)
    )
    return expected.keys() == given.keys() and all(
        shape == given[key] or has_fewer_channels(given[key], shape) for key, shape in expected.items()
    )


def _prefix(tensors: Mapping[str, Tensor], choice: EncoderChoice, needed: tuple[str, ...]) -> str | None:
    prefix = choice.prefix if choice.prefix is not None else prefix_of(tensors, *needed)
    return prefix if prefix is not None and all(f"{prefix}{key}" in tensors for key in needed) else None


def _named_child(key: str) -> str:
    first, dot, remainder = key.partition(".")
    return f"{_CHILDREN.get(first, first)}{dot}{remainder}"

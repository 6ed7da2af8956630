"""A head's layers as modules: Linear, BatchNorm1d, LayerNorm by their tensors, activations by name.

A list of layers is what import.toml writes: names of keys (`ich_head.0`) and of activations (`relu`,
`leaky_relu:0.2`); `dropout` and `none` do nothing in inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from export.weights.parts import refuse_parts

LEAKY_SLOPE = 0.01
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "none": nn.Identity,
}
_NOTHING = {"dropout", "flatten", "identity"}
LINEAR, BATCH_NORM, LAYER_NORM = "Linear", "BatchNorm1d", "LayerNorm"


@dataclass(frozen=True)
class Epsilons:
    """What a normalisation adds to the variance; it is in no tensor, and PyTorch's defaults are assumed."""

    batch_norm: float = 1e-5
    layer_norm: float = 1e-5


@dataclass(frozen=True)
class Part:
    """One layer with tensors.

    Attributes:
        key: of its module, without `.weight`.
        kind: LINEAR, BATCH_NORM or LAYER_NORM.
        inputs, outputs: its widths.
    """

    key: str
    kind: str
    inputs: int
    outputs: int


class Activation(nn.Module):
    """An activation that its owner named or that was assumed, so that a search can put another in its place."""

    def __init__(self, name: str, *, known: bool = False) -> None:
        """Take `relu`, or `leaky_relu:0.2` with its slope; `known` where the library's own code says so."""
        super().__init__()
        self.name, self.known = name, known
        self.function = make_activation(name)

    def forward(self, x: Tensor) -> Tensor:
        """See `ACTIVATIONS`."""
        y: Tensor = self.function(x)
        return y


def make_activation(name: str) -> nn.Module:
    """The module of a name.

    Raises:
        ConfigError: no such activation.
    """
    plain, _, slope = name.partition(":")
    if plain not in ACTIVATIONS or (slope and plain != "leaky_relu"):
        raise ConfigError(f"activation {name!r} is none of {', '.join(ACTIVATIONS)} (leaky_relu:0.2 names its slope)")
    if not slope:
        return ACTIVATIONS[plain]()
    try:
        return nn.LeakyReLU(float(slope))
    except ValueError as error:
        raise ConfigError(f"activation {name!r}: its slope is no number") from error


def is_activation(name: str) -> bool:
    """Whether a word of a list of layers is an activation's name rather than a key's."""
    return name.partition(":")[0] in ACTIVATIONS


def parts_of(tensors: Mapping[str, Tensor]) -> list[Part]:
    """The layers in a set of tensors, in the order of the keys.

    Raises:
        CheckpointError: a tensor of another kind of layer.
    """
    refuse_parts(tensors)
    modules: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        path, _, leaf = key.rpartition(".")
        modules.setdefault(path, {})[leaf] = value
    return [_part(path, leaves) for path, leaves in modules.items()]


def _part(path: str, leaves: Mapping[str, Tensor]) -> Part:
    weight, leaf = leaves.get("weight"), set(leaves) - {"num_batches_tracked"}
    if {"running_mean", "running_var"} <= leaf <= {"weight", "bias", "running_mean", "running_var"}:
        width = leaves["running_mean"].shape[0]
        return Part(path, BATCH_NORM, width, width)
    if weight is not None and leaf <= {"weight", "bias"}:
        if weight.ndim == 2:
            return Part(path, LINEAR, weight.shape[1], weight.shape[0])
        if weight.ndim == 1 and "bias" in leaves:
            return Part(path, LAYER_NORM, weight.shape[0], weight.shape[0])
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in leaves.items())
    raise CheckpointError(
        f"{path or 'the top'} holds {shapes}: no Linear, BatchNorm1d or LayerNorm, which are the layers that a head "
        "may have here (PReLU, RMSNorm, convolutions and attention are not taken); give the module itself, --model "
        "FILE.py:FACTORY"
    )


def build_layers(
    names: Sequence[str], tensors: Mapping[str, Tensor], epsilons: Epsilons, *, known: int = 0
) -> list[nn.Module]:
    """The modules of a list of layers, with their weights; the first `known` names are the library's.

    Raises:
        ConfigError: a name that is neither a key of these weights nor an activation.
        CheckpointError: a layer of another kind, or widths that do not follow each other.
    """
    modules: list[nn.Module] = []
    width: int | None = None
    for place, name in enumerate(names):
        if name in _NOTHING:
            continue
        if is_activation(name):
            modules.append(Activation(name, known=place < known))
            continue
        leaves = {key: value for key, value in tensors.items() if key.rpartition(".")[0] == name}
        if not leaves:
            present = ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in tensors)) or "none"
            raise ConfigError(
                f"no layer {name!r} in the weights, nor an activation; layers beside the encoder: {present}"
            )
        part = parts_of(leaves)[0]
        if width is not None and width != part.inputs:
            raise CheckpointError(f"{name} takes {part.inputs} values, the layer before it gives {width}")
        width = part.outputs
        modules.append(_module(part, leaves, epsilons))
    return modules


def _module(part: Part, leaves: Mapping[str, Tensor], epsilons: Epsilons) -> nn.Module:
    tensors = {key.rpartition(".")[2]: value for key, value in leaves.items()}
    module: nn.Module
    if part.kind == LINEAR:
        module = nn.Linear(part.inputs, part.outputs, bias="bias" in tensors)
    elif part.kind == BATCH_NORM:
        module = nn.BatchNorm1d(part.inputs, eps=epsilons.batch_norm, affine="weight" in tensors)
    else:
        module = nn.LayerNorm(part.inputs, eps=epsilons.layer_norm)
    expected = module.state_dict()
    module.load_state_dict({key: tensors.get(key, value) for key, value in expected.items()})
    return module.eval()

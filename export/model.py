"""DTViT: one encoder, two MLP heads (Fan, Lu, Fan, arXiv 2405.06814, section 2.2).

The paper's two heads answer "is there a haemorrhage" and "deep, lobar or subtentorial"; it gives no depth or
hidden size, so these are read off the weights (`HeadLayout.from_shapes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError
from dtvit_edge.spec import HEAD_LABELS, PreprocessSpec
from export.encoders import DEFAULT_ENCODER, INPUT_SIZE, create_encoder, feature_width

# Modules of the model and checkpoint keys, each with the number of its logits.
HEADS = {f"{head}_head": len(labels) for head, labels in HEAD_LABELS.items()}


@dataclass(frozen=True)
class HeadLayout:
    """The linear layers of one MLP head and where they stand in its `nn.Sequential`.

    Attributes:
        widths: output width of each Linear but the last.
        positions: index of each Linear in the sequence, rising; a GELU follows each but the last. Positions
            left over (a trainer's Dropout) do nothing in inference.
    """

    widths: tuple[int, ...] = (256,)
    positions: tuple[int, ...] = (0, 2)

    def build(self, inputs: int, outputs: int) -> nn.Sequential:
        """The head as a module that maps (N, inputs) to (N, outputs)."""
        layers: list[nn.Module] = [nn.Identity() for _ in range(self.positions[-1] + 1)]
        sizes = (inputs, *self.widths, outputs)
        for position, before, after in zip(self.positions, sizes[:-1], sizes[1:], strict=True):
            layers[position] = nn.Linear(before, after)
            if position != self.positions[-1]:
                layers[position + 1] = nn.GELU()
        return nn.Sequential(*layers)

    @classmethod
    def from_shapes(cls, head: str, shapes: Mapping[str, tuple[int, ...]]) -> HeadLayout:
        """Read a head off the shapes of a checkpoint's tensors, by key (`ich_head.0.weight`).

        Raises:
            CheckpointError: no such head, or one that is not Linear layers with room for a GELU between.
        """
        linear: dict[int, int] = {}
        for key, shape in shapes.items():
            name, _, rest = key.partition(".")
            index, _, kind = rest.partition(".")
            if name != head or kind != "weight":
                continue
            if not index.isdigit() or len(shape) != 2:
                raise CheckpointError(f"{key} has the shape {shape}; a head holds Linear layers only")
            linear[int(index)] = shape[0]
        if not linear:
            raise CheckpointError(f"no {head} in this checkpoint: expected keys like {head}.0.weight and {head}.0.bias")
        positions = tuple(sorted(linear))
        if positions[-1] > 64 or any(b - a < 2 for a, b in pairwise(positions)):
            raise CheckpointError(f"{head} has Linear layers at {positions}; a GELU has to fit between each two")
        return cls(tuple(linear[i] for i in positions[:-1]), positions)


class DTViT(nn.Module):
    """The dual-task model: encoder, haemorrhage head, location head.

    Attributes:
        encoder_name: as timm knows it, or "alexnet".
    """

    def __init__(
        self,
        encoder: str = DEFAULT_ENCODER,
        ich_head: HeadLayout | None = None,
        location_head: HeadLayout | None = None,
        *,
        size: int = INPUT_SIZE,
    ) -> None:
        """Make the model with fresh weights.

        Args:
            size: side of its input.

        Raises:
            ConfigError: no such encoder.
        """
        super().__init__()
        self.encoder_name = encoder
        self.encoder = create_encoder(encoder, size=size)
        width = feature_width(self.encoder)
        self.ich_head: nn.Sequential = (ich_head or HeadLayout()).build(width, HEADS["ich_head"])
        self.location_head: nn.Sequential = (location_head or HeadLayout()).build(width, HEADS["location_head"])

    @classmethod
    def assemble(cls, name: str, encoder: nn.Module, ich_head: nn.Sequential, location_head: nn.Sequential) -> DTViT:
        """A model of parts that are there already, in eval mode.

        Args:
            name: of the encoder.
            encoder: (N, 3, side, side) to (N, F); the heads (N, F) to (N, 2) and (N, 3).
        """
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model.encoder_name = name
        model.encoder = encoder
        model.ich_head = ich_head
        model.location_head = location_head
        return model.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score normalised slices.

        Args:
            x: (N, 3, side, side) float32, normalised as `normalise` does.

        Returns:
            ich_logits (N, 2) and location_logits (N, 3), float32.
        """
        features = self.encoder(x)
        return self.ich_head(features), self.location_head(features)


def normalise(pixels: Tensor, spec: PreprocessSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """Model bytes to what `DTViT.forward` takes, as torchvision's ToTensor and Normalize do.

    Args:
        pixels: (N, C, side, side) uint8, C = `spec.channels`, side = `spec.crop`; one channel is repeated to three.

    Returns:
        (N, 3, side, side) of `dtype`.
    """
    x = pixels.to(dtype) / 255.0
    mean = torch.tensor(spec.mean, dtype=dtype, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.std, dtype=dtype, device=pixels.device).view(1, -1, 1, 1)
    return (x - mean) / std

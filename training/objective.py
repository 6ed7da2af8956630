"""The loss of a training: cross-entropy on both heads, and, where outlines are known, on every patch token too.

The location loss counts only where a location is labelled. The patch loss is no part of the paper: a small linear
layer asks each patch token, after two thirds of the blocks, which share of its patch is blood, and of which location;
the blocks that are left gather the answer into the class token. It trains the encoder far more densely than one answer
an image does, and is thrown away afterwards: a checkpoint never holds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, one_hot

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import LOCATION_LABELS
from evaluation.labels import LabelledSlice
from export.model import DTViT

NOT_LABELLED = -100  # cross_entropy's ignore_index


@dataclass(frozen=True)
class Scores:
    """Means over one part of the data; NaN where nothing of it was labelled."""

    loss: float
    ich_accuracy: float
    location_accuracy: float


@dataclass(frozen=True)
class Targets:
    """The labels of a batch.

    Attributes:
        ich, location: (N,) int64, `NOT_LABELLED` where there is no label.
        masks: (N, crop, crop) uint8, 1 where blood is; None where the patches are not asked.
        counts: how many have a label for `ich` and for `location`; None where the tensors have to be asked.
    """

    ich: Tensor
    location: Tensor
    masks: Tensor | None = None
    counts: tuple[int, int] | None = None

    @classmethod
    def of(cls, slices: Sequence[LabelledSlice], masks: Tensor | None, device: str) -> Targets:
        """The labels of these slices on a device."""
        ich = [NOT_LABELLED if s.ich is None else int(s.ich) for s in slices]
        location = [NOT_LABELLED if s.location is None else s.location for s in slices]
        return cls(
            torch.tensor(ich, device=device),
            torch.tensor(location, device=device),
            None if masks is None else masks.to(device),
        )


class TrainingModel(nn.Module):
    """DTViT while it is trained: with the linear layer over its patch tokens if `patch_weight` is above 0."""

    def __init__(self, model: DTViT, patch_weight: float = 0.0) -> None:
        """Wrap a model.

        Raises:
            ConfigError: patch tokens are asked of an encoder that has none.
        """
        super().__init__()
        self.model = model
        self.patch_weight = patch_weight
        self.patches: nn.Sequential | None = None
        if patch_weight:
            if not hasattr(model.encoder, "forward_intermediates") or not hasattr(model.encoder, "blocks"):
                raise ConfigError(f"{model.encoder_name} has no patch tokens; leave the patch loss at 0")
            width = int(model.encoder.num_features)  # type: ignore[arg-type]
            self.patches = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1 + len(LOCATION_LABELS)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """(N, 3, 224, 224) float32 to ICH logits (N, 2), location logits (N, 3) and patch logits (N, patches, 4)."""
        if self.patches is None:
            return (*self.model(x), None)
        encoder: Any = self.model.encoder
        asked = [2 * len(encoder.blocks) // 3 - 1]
        last, (tokens,) = encoder.forward_intermediates(x, indices=asked, output_fmt="NLC")
        pooled = encoder.forward_head(last, pre_logits=True)
        return self.model.ich_head(pooled), self.model.location_head(pooled), self.patches(tokens)

    def patch_loss(self, logits: Tensor, targets: Targets) -> Tensor:
        """Cross-entropy of every patch's shares of no blood and of blood in each location, times its weight, a scalar.

        Blood on a slice without a location's label is left out.
        """
        assert targets.masks is not None
        grid = math.isqrt(logits.shape[1])
        blood = avg_pool2d(targets.masks[:, None].float(), targets.masks.shape[1] // grid).flatten(1)[..., None]
        located = one_hot(targets.location.clamp(min=0), len(LOCATION_LABELS))[:, None]
        shares = torch.cat([1 - blood, blood * located], 2).flatten(0, 1)
        losses = cross_entropy(logits.flatten(0, 1), shares, reduction="none")
        counted = ((targets.location[:, None, None] != NOT_LABELLED) | (blood == 0)).flatten()
        # Not by a choice of elements, whose number a GPU would have to be waited for at every step.
        return self.patch_weight * losses.where(counted, 0.0).sum() / counted.sum().clamp(min=1)


class RunningScores:
    """Adds up the loss and the right answers of both heads over batches."""

    def __init__(self) -> None:
        # Sums stay where the batches are until they are asked for: a GPU would be waited for at every step.
        self.loss: Tensor | float = 0.0
        self.batches = 0
        self.hits: dict[str, Tensor | float] = {"ich": 0.0, "location": 0.0}
        self.counts = {"ich": 0, "location": 0}

    def add(self, ich: Tensor, location: Tensor, targets: Targets) -> Tensor | None:
        """The batch's loss on both heads; None where nothing in it is labelled, which would make it 0/0."""
        losses = []
        heads = (("ich", ich, targets.ich), ("location", location, targets.location))
        counts = targets.counts or [int((target != NOT_LABELLED).sum()) for _, _, target in heads]
        for (head, logits, target), count in zip(heads, counts, strict=True):
            if not count:
                continue
            losses.append(cross_entropy(logits, target, ignore_index=NOT_LABELLED))
            self.hits[head] = self.hits[head] + (logits.argmax(1) == target).sum()
            self.counts[head] += count
        if not losses:
            return None
        loss = torch.stack(losses).sum()
        self.loss = self.loss + loss.detach().double()
        self.batches += 1
        return loss

    def scores(self) -> Scores:
        """The means so far."""

        def share(total: Tensor | float, count: int) -> float:
            return float(total) / count if count else math.nan

        return Scores(
            share(self.loss, self.batches),
            share(self.hits["ich"], self.counts["ich"]),
            share(self.hits["location"], self.counts["location"]),
        )

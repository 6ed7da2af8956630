"""Batches of a labelled set for a training: as tensors on its device, with their labels.

On a CPU every image is turned and sharpened by itself. A GPU would wait for that: there, all images of the training
are on the device as bytes, and a batch of them is turned and sharpened at once, with draws of the same distributions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from evaluation.images import ImageSet
from export.model import normalise
from training import augment
from training.config import TrainConfig
from training.devices import is_fast
from training.objective import NOT_LABELLED, Targets

EVALUATION_BATCH = 64
Batch = tuple[Tensor, Targets]


class Feed(Protocol):
    """What a training reads its batches from: (N, 3, crop, crop) float32, normalised, and the labels."""

    def training(self, order: Sequence[int]) -> Iterator[Batch]:
        """Augmented batches in this order, drawn from torch's global generator."""
        ...

    def evaluation(self, indices: Sequence[int]) -> Iterator[Batch]:
        """Batches as the runtime would see them."""
        ...


def feed_of(data: ImageSet, config: TrainConfig) -> Feed:
    """The feed for the configuration's device; images of several sizes are fed one by one on any."""
    if is_fast(config.device) and len({image.shape for image in data.images}) == 1:
        return DeviceFeed(data, config)
    return HostFeed(data, config)


class HostFeed:
    """Prepares image by image on the CPU."""

    def __init__(self, data: ImageSet, config: TrainConfig) -> None:
        self._data, self._config = data, config

    def training(self, order: Sequence[int]) -> Iterator[Batch]:
        """See `Feed`."""
        config = self._config
        transform = augment.training(config.spec, augment=config.augment, flip=config.flip)
        for chosen in _parts(order, config.batch_size):
            yield self._load(chosen, transform, masks=config.patch_weight > 0)

    def evaluation(self, indices: Sequence[int]) -> Iterator[Batch]:
        """See `Feed`."""
        for chosen in _parts(indices, EVALUATION_BATCH):
            yield self._load(chosen, augment.evaluation(self._config.spec), masks=False)

    def _load(self, chosen: Sequence[int], transform: augment.Transform, *, masks: bool) -> Batch:
        pixels, outlined = augment.batch(self._data, chosen, transform, masks=masks)
        targets = Targets.of([self._data.slices[i] for i in chosen], outlined, self._config.device)
        return normalise(pixels.to(self._config.device), self._config.spec), targets


class DeviceFeed:
    """Holds the whole set on the device, and prepares a batch there at once; nothing waits for the device."""

    def __init__(self, data: ImageSet, config: TrainConfig) -> None:
        """Copy the images, one channel of bytes each as they are, and the labels to the device."""
        self._config = config
        device = config.device
        self._images = torch.from_numpy(np.stack(data.images)).to(device)
        asked = config.patch_weight > 0 and data.masks is not None
        self._masks = torch.from_numpy(np.stack(data.masks)).to(device) if asked and data.masks is not None else None
        labels = [
            (NOT_LABELLED if s.ich is None else int(s.ich), NOT_LABELLED if s.location is None else s.location)
            for s in data.slices
        ]
        self._labels = torch.tensor(labels, device=device)
        self._labelled = np.array(labels) != NOT_LABELLED  # on the host: to ask the device would be to wait for it
        self._mean, self._std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (config.spec.mean, config.spec.std)
        )

    def training(self, order: Sequence[int]) -> Iterator[Batch]:
        """See `Feed`."""
        config = self._config
        for chosen, targets in self._parts(order, config.batch_size):
            masks = None if self._masks is None else self._masks[chosen]
            pixels, masks = augment.together(
                self._images[chosen], masks, config.spec, augment=config.augment, flip=config.flip
            )
            targets = Targets(targets.ich, targets.location, masks, targets.counts)
            yield self._normalised(pixels), targets

    def evaluation(self, indices: Sequence[int]) -> Iterator[Batch]:
        """See `Feed`."""
        for chosen, targets in self._parts(indices, EVALUATION_BATCH):
            yield self._normalised(augment.evaluation(self._config.spec)(self._images[chosen])), targets

    def _parts(self, indices: Sequence[int], size: int) -> Iterator[tuple[Tensor, Targets]]:
        places = torch.tensor(list(indices), device=self._config.device)
        labels = self._labels[places]
        for start in range(0, len(indices), size):
            ich, location = labels[start : start + size].unbind(1)
            counted = self._labelled[list(indices[start : start + size])].sum(0)
            counts = int(counted[0]), int(counted[1])
            yield places[start : start + size], Targets(ich, location, counts=counts)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """As `export.model.normalise`, with a layout that convolutions like."""
        x = (pixels.float() / 255.0 - self._mean) / self._std
        return x.contiguous(memory_format=torch.channels_last)


def _parts(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (indices[i : i + size] for i in range(0, len(indices), size))

"""The configuration of a training run; its digest decides whether an interrupted one may go on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import TRAINING_STATES, PreprocessSpec, digest_file, digest_json
from export.encoders import DEFAULT_ENCODER
from training.splits import MAX_TEST_FOLDS

# Batch sizes of the paper (3.2), without and with augmentation.
PAPER_BATCH = {False: 8, True: 32}
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainConfig:
    """One training run; the defaults are the paper's (2.2.3, 3.2), what it leaves open is off.

    Attributes:
        training: how the checkpoint will say that it was trained.
        flip: left and right change places at random; the paper does not.
        epoch_images: images in an epoch, drawn anew each time; None takes the whole training part.
        batch: None takes the paper's, 8 without augmentation and 32 with it.
        warmup_epochs: the learning rate rises linearly over this many epochs.
        precision: of the forward pass; weights and optimiser stay fp32, fp16 scales its loss.
        half_weights: the best checkpoint is written as float16, half as large.
        init: local file to start from, a checkpoint of the whole model or weights of the encoder with timm's names;
            None starts from random weights.
        encoder_rate: the encoder's learning rate as a share of the heads'.
        frozen_blocks: the embedding and this many first blocks of a ViT stay as they are.
        patch_weight: weight of the loss on patch tokens (`objective`), for data with masks; the paper has none.
        paper_protocol: replicate first and split by image afterwards, leakage and all.
        seed: of the weights, the order and augmentation.
        split_seed: of the split; None takes `seed`. Trainings that differ in their seed alone can share a split.
        test_folds: tenths of the patients held out as test (`splits.split_by_patient`); the paper's protocol has one.
    """

    encoder: str = DEFAULT_ENCODER
    training: str = "clinical-unvalidated"
    epochs: int = 50
    epoch_images: int | None = None
    batch: int | None = None
    augment: bool = True
    flip: bool = False
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_epochs: int = 0
    precision: str = "fp32"
    half_weights: bool = False
    init: Path | None = None
    encoder_rate: float = 1.0
    frozen_blocks: int = 0
    patch_weight: float = 0.0
    paper_protocol: bool = False
    test_folds: int = 1
    device: str = "cpu"
    seed: int = 0
    split_seed: int | None = None
    spec: PreprocessSpec = field(default_factory=PreprocessSpec)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("training", self.training, TRAINING_STATES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
        if (
            self.epochs < 1
            or self.batch_size < 1
            or (self.epoch_images or 1) < 1
            or not 0 < self.learning_rate < math.inf
        ):
            raise ConfigError("epochs, their images, batch and learning rate must be above 0")
        if self.encoder_rate < 0 or self.frozen_blocks < 0 or self.patch_weight < 0:
            raise ConfigError("the encoder's rate, the frozen blocks and the patch loss must not be below 0")
        if not 1 <= self.test_folds <= (1 if self.paper_protocol else MAX_TEST_FOLDS):
            raise ConfigError(
                f"{self.test_folds} tenths held out as test: expected 1 to {MAX_TEST_FOLDS}, the paper's has 1"
            )
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(f"{self.warmup_epochs} epochs of warm-up do not fit into {self.epochs}")

    @property
    def batch_size(self) -> int:
        """The batch, the paper's where none is given."""
        return PAPER_BATCH[self.augment] if self.batch is None else self.batch

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the initial checkpoint by its digest, since a path says nothing."""
        plain = asdict(self)
        if self.split_seed is None:
            del plain["split_seed"]  # trainings from before there was one are still the same
        return plain | {
            "spec": self.spec.to_dict(),
            "batch": self.batch_size,
            "init": None if self.init is None else digest_file(self.init),
        }

    def digest(self, labels: str) -> str:
        """Identity of the run over a labelled set with this digest."""
        return digest_json({"config": self.to_dict(), "labels": labels})

"""Evaluates models on slices they never saw: a training on its own test part, any other checkpoint on a whole set."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import LOCATION_HEAD, PreprocessSpec
from evaluation.images import ImageSet
from evaluation.labels import LabelledSlice
from evaluation.metrics import HeadFigures, ich_figures, location_figures
from export.checkpoint import load_checkpoint
from export.model import DTViT, normalise
from training import augment
from training.train import BEST, HISTORY, RUN

BATCH = 64


@dataclass(frozen=True)
class TrainingRun:
    """The folder of a training: its configuration, its split and its history, as `train` wrote them."""

    folder: Path
    config: dict[str, Any]
    data: str
    split: dict[str, list[int]]
    leaked: int
    history: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> TrainingRun:
        """Read a training's folder.

        Raises:
            ConfigError: it holds no training, or one that did not get through its first epoch.
        """
        try:
            facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
            history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
            if not (folder / BEST).is_file():
                raise FileNotFoundError(folder / BEST)
            return cls(folder, facts["config"], facts["data"], facts["split"], facts["leaked"], history)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder}: holds no finished epoch of `dtvit-edge train`: {error}") from error

    @property
    def budget(self) -> str:
        """What it was trained for, in words; neither the seed nor the weights that it began with."""
        c = self.config
        done = f"{c['epochs']} epochs" if self.finished else f"{len(self.history)} of {c['epochs']} epochs"
        images = c["epoch_images"] or len(self.split["train"])
        return (
            f"{done} of {images} images, batch {c['batch']}, {c['optimizer']} {c['learning_rate']:g}, {c['schedule']}, "
            f"{c['precision']}"
        )

    @property
    def finished(self) -> bool:
        """Whether every epoch that was asked for was trained."""
        return len(self.history) == self.config["epochs"]


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model.

    Attributes:
        name: of the run's folder or the checkpoint's file.
        run: None where the model came as a checkpoint alone.
        sha256: of the weights.
        slices: indices of the slices that it was evaluated on.
        ich_probability, location_probability: (N,) and (N, 3) of those slices.
        ich, location: None where nothing was labelled, or the head is untrained.
    """

    name: str
    encoder: str
    run: TrainingRun | None
    sha256: str
    slices: tuple[int, ...]
    ich: HeadFigures | None
    location: HeadFigures | None
    ich_probability: NDArray[np.float64] = field(compare=False, repr=False)
    location_probability: NDArray[np.float64] = field(compare=False, repr=False)


def spec_of(models: Sequence[Path]) -> PreprocessSpec:
    """The preprocessing that all these models were trained with; the default where a checkpoint does not say.

    Raises:
        ConfigError: they do not agree.
    """
    specs = {load_checkpoint(m / BEST if m.is_dir() else m).spec or PreprocessSpec() for m in models}
    if len(specs) > 1:
        raise ConfigError("these models were trained with different preprocessing; evaluate them one by one")
    return specs.pop()


def evaluate_model(path: Path, data: ImageSet, *, seed: int = 0, progress: Progress = silent) -> Evaluation:
    """Evaluate a training's folder on the test part of its own split, or a checkpoint on every slice of `data`.

    A checkpoint does not say what it was trained on: that none of `data` was among it is the caller's word.

    Raises:
        ConfigError: another preprocessing or data than it was trained with; nothing in it.
    """
    run = TrainingRun.read(path) if path.is_dir() else None
    checkpoint = load_checkpoint(path / BEST if run else path)
    if run and run.data != data.digest:
        raise ConfigError(f"{path}: trained on another labelled set (digest {run.data[:12]}, not {data.digest[:12]})")
    slices = tuple(run.split["test"]) if run else tuple(range(len(data.slices)))
    spec = checkpoint.spec or PreprocessSpec()
    ich, location = predict(checkpoint.model, data, slices, spec, progress=progress, name=path.name)
    judged = [data.slices[i] for i in slices]
    return Evaluation(
        path.stem if not run else path.name,
        checkpoint.model.encoder_name,
        run,
        checkpoint.sha256,
        slices,
        _judged([s.ich for s in judged], ich, judged, partial(ich_figures, seed=seed)),
        None
        if LOCATION_HEAD in checkpoint.untrained_heads
        else _judged([s.location for s in judged], location, judged, partial(location_figures, seed=seed)),
        ich,
        location,
    )


@torch.no_grad()
def predict(
    model: DTViT,
    data: ImageSet,
    indices: Sequence[int],
    spec: PreprocessSpec,
    *,
    progress: Progress = silent,
    name: str = "",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of haemorrhage (N,) and of each location (N, 3), without augmentation, in fp32."""
    model.eval()
    ich, location = [], []
    transform = augment.evaluation(spec)
    with progress(f"evaluating {name}", len(indices)) as step:
        for start in range(0, len(indices), BATCH):
            chosen = indices[start : start + BATCH]
            pixels, _ = augment.batch(data, chosen, transform)
            logits = model(normalise(pixels, spec))
            ich.append(torch.softmax(logits[0].double(), 1)[:, 1])
            location.append(torch.softmax(logits[1].double(), 1))
            step(len(chosen))
    return torch.cat(ich).numpy(), torch.cat(location).numpy()


def _judged(
    labels: Sequence[int | None],
    probability: NDArray[np.float64],
    slices: Sequence[LabelledSlice],
    figures: Callable[..., HeadFigures],
) -> HeadFigures | None:
    """A head's figures over the slices that have a label for it; None where none has."""
    kept = [k for k, label in enumerate(labels) if label is not None]
    truth = np.array([labels[k] for k in kept], np.int64)
    return figures(truth, probability[kept], [slices[k].patient for k in kept]) if kept else None

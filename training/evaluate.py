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
from training import augment, devices
from training.answers import ANSWERS, Kept, keep, kept_of
from training.train import BEST, HISTORY, RUN

BATCH = 64


@dataclass(frozen=True)
class TrainingRun:
    """The folder of a training: its configuration, its split and its history, as `train` wrote them.

    Attributes:
        device: what it was trained on, by its maker's name; nothing in folders of earlier versions.
    """

    folder: Path
    config: dict[str, Any]
    data: str
    split: dict[str, list[int]]
    leaked: int
    history: list[dict[str, Any]]
    device: str = ""

    @classmethod
    def read(cls, folder: Path) -> TrainingRun:
        """Read a training's folder.

        Raises:
            ConfigError: it holds no training, or one that did not get through its first epoch.
        """
        try:
            facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
            history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
            if not (folder / BEST).is_file() and not (folder / ANSWERS).is_file():
                raise FileNotFoundError(folder / BEST)
            config, split, device = facts["config"], facts["split"], facts.get("device", "")
            return cls(folder, config, facts["data"], split, facts["leaked"], history, device)
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
        ConfigError: they do not agree; a folder holds no training.
    """
    specs = {_spec_of(model) for model in models}
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
    if run and run.data != data.digest:
        raise ConfigError(f"{path}: trained on another labelled set (digest {run.data[:12]}, not {data.digest[:12]})")
    slices = tuple(run.split["test"]) if run else tuple(range(len(data.slices)))
    answers = kept_of(path, slices) if run else None
    if run and answers and answers.encoder != (trained := run.config["encoder"]):
        raise ConfigError(f"{path / ANSWERS}: not the answers of a training: of {answers.encoder}, not of {trained}")
    if answers is None:
        answers = _answers(path, run, data, slices, progress)
    ich, location = answers.ich, answers.location
    judged = [data.slices[i] for i in slices]
    return Evaluation(
        path.stem if not run else path.name,
        answers.encoder,
        run,
        answers.sha256,
        slices,
        _judged([s.ich for s in judged], ich, judged, partial(ich_figures, seed=seed)),
        None
        if LOCATION_HEAD in answers.untrained_heads
        else _judged([s.location for s in judged], location, judged, partial(location_figures, seed=seed)),
        ich,
        location,
    )


def keep_answers(folder: Path, data: ImageSet) -> None:
    """Keep what a training says of its test part in its folder, where that is not kept yet."""
    run = TrainingRun.read(folder)
    slices = tuple(run.split["test"])
    if kept_of(folder, slices) is None:
        keep(folder, _answers(folder, run, data, slices, silent))


def _spec_of(model: Path) -> PreprocessSpec:
    if model.is_dir() and not (model / BEST).is_file():  # its answers alone are here
        return PreprocessSpec.from_dict(TrainingRun.read(model).config["spec"])
    return load_checkpoint(model / BEST if model.is_dir() else model).spec or PreprocessSpec()


def _answers(path: Path, run: TrainingRun | None, data: ImageSet, slices: Sequence[int], progress: Progress) -> Kept:
    """Computed on the device that the run was trained on, where it is here, else on the CPU."""
    checkpoint = load_checkpoint(path / BEST if run else path)
    asked = run.config["device"] if run else devices.CPU
    device = asked if devices.is_there(asked) else devices.CPU
    model, spec = checkpoint.model.to(device), checkpoint.spec or PreprocessSpec()
    ich, location = predict(model, data, slices, spec, progress=progress, name=path.name, device=device)
    untrained = tuple(checkpoint.untrained_heads)
    return Kept(checkpoint.sha256, model.encoder_name, untrained, np.array(slices, np.int64), ich, location)


@torch.no_grad()
def predict(
    model: DTViT,
    data: ImageSet,
    indices: Sequence[int],
    spec: PreprocessSpec,
    *,
    progress: Progress = silent,
    name: str = "",
    device: str = devices.CPU,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of haemorrhage (N,) and of each location (N, 3), without augmentation, in fp32.

    Args:
        device: that the model is on.
    """
    model.eval()
    ich, location = [], []
    transform = augment.evaluation(spec)
    with progress(f"evaluating {name}", len(indices)) as step:
        for start in range(0, len(indices), BATCH):
            chosen = indices[start : start + BATCH]
            pixels, _ = augment.batch(data, chosen, transform)
            logits = [head.cpu().double() for head in model(normalise(pixels.to(device), spec))]
            ich.append(torch.softmax(logits[0], 1)[:, 1])
            location.append(torch.softmax(logits[1], 1))
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

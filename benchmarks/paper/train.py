"""Training: cross-entropy on both heads, the location loss only where a location is labelled.

After every epoch the whole state goes to `last.pt` in one step, and the best weights by validation loss to
`best.safetensors`. Each epoch draws its order and its augmentation from the seed and its own number, so that a run that
was interrupted and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.paper import augment
from benchmarks.paper.config import TrainConfig
from benchmarks.paper.images import Data
from benchmarks.paper.labels import LabelledSlice
from benchmarks.paper.protocol import Split, split_by_patient, split_like_the_paper
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.run import Progress, silent
from dtvit_edge.spec import digest_json
from dtvit_edge.writers.atomic import write_atomically
from export.checkpoint import load_checkpoint, save_checkpoint
from export.model import DTViT, normalise

STATE, BEST, HISTORY, RUN = "last.pt", "best.safetensors", "history.json", "run.json"
NOT_LABELLED = -100  # cross_entropy's ignore_index


@dataclass(frozen=True)
class Scores:
    """Means over one part of the data; NaN where nothing of it was labelled."""

    loss: float
    ich_accuracy: float
    location_accuracy: float


@dataclass(frozen=True)
class Epoch:
    """One epoch's row of the history; counts from 1."""

    epoch: int
    learning_rate: float
    train: Scores
    validation: Scores


def make_split(slices: Sequence[LabelledSlice], config: TrainConfig) -> Split:
    """The split that the configuration asks for."""
    split = split_like_the_paper if config.paper_protocol else split_by_patient
    return split(slices, seed=config.seed)


def train(data: Data, config: TrainConfig, out: Path, *, progress: Progress = silent) -> tuple[Epoch, ...]:
    """Train into `out`, from where an interrupted run of the same configuration and data stopped.

    Returns:
        The history, one row an epoch. `out/best.safetensors` holds the best weights by validation loss.

    Raises:
        ConfigError: `out` holds another run.
        VerdictError: no epoch ended with a finite validation loss.
    """
    split = make_split(data.slices, config)
    identity = config.digest(data.digest)
    _claim(out, identity, config, split)
    torch.manual_seed(config.seed)
    model = _new_model(config).to(config.device)
    optimizer = _optimizer(model, config)
    history, best = _resume(out / STATE, model, optimizer)
    for number in range(len(history) + 1, config.epochs + 1):
        rate = learning_rate(config, number)
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Order and augmentation of an epoch depend on its number alone, never on what ran before it.
        torch.manual_seed(int(digest_json([config.seed, number])[:15], 16))
        order = [split.train[i] for i in torch.randperm(len(split.train)).tolist()]
        with progress(f"epoch {number}/{config.epochs}", math.ceil(len(order) / config.batch_size)) as step:
            trained = _train_epoch(model, optimizer, data, order, config, step)
        judged = evaluate(model, data, split.validation, config)
        history.append(Epoch(number, rate, trained, judged))
        if judged.loss < best:
            best = judged.loss
            _save_best(model, out / BEST, config)
        _save_state(out / STATE, model, optimizer, history, best)
        write_atomically(out / HISTORY, json.dumps([asdict(epoch) for epoch in history], indent=1) + "\n")
    if not math.isfinite(best):
        raise VerdictError(f"{out}: no epoch ended with a finite validation loss; there are no best weights")
    return tuple(history)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The rate of an epoch, counting from 1: linear warm-up, then constant or a half cosine down to 0."""
    if epoch <= config.warmup_epochs:
        return config.learning_rate * epoch / (config.warmup_epochs + 1)
    if config.schedule == "constant":
        return config.learning_rate
    done = (epoch - 1 - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def evaluate(model: DTViT, data: Data, indices: Sequence[int], config: TrainConfig) -> Scores:
    """Loss and accuracy of a part of the data, without augmentation, in fp32."""
    model.eval()
    tally = _Tally()
    transform = augment.evaluation(config.spec)
    for chosen in _batches(indices, 64):
        ich, location = model(_inputs(data, chosen, transform, config))
        tally.add(ich, location, *(t.to(config.device) for t in _targets(data, chosen)))
    return tally.scores()


def _train_epoch(
    model: DTViT,
    optimizer: torch.optim.Optimizer,
    data: Data,
    order: Sequence[int],
    config: TrainConfig,
    step: Callable[[int], None],
) -> Scores:
    model.train()
    tally = _Tally()
    transform = (augment.training if config.augment else augment.evaluation)(config.spec)
    for chosen in _batches(order, config.batch_size):
        inputs = _inputs(data, chosen, transform, config)
        targets = [t.to(config.device) for t in _targets(data, chosen)]
        with torch.autocast(config.device.split(":")[0], torch.bfloat16, enabled=config.precision == "bf16"):
            ich, location = model(inputs)
        loss = tally.add(ich.float(), location.float(), *targets)
        if loss is not None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        step(1)
    return tally.scores()


class _Tally:
    """Adds up losses and hits over batches."""

    def __init__(self) -> None:
        self.loss = self.ich_hits = self.location_hits = 0.0
        self.batches = self.ich_count = self.location_count = 0

    def add(self, ich: Tensor, location: Tensor, ich_target: Tensor, location_target: Tensor) -> Tensor | None:
        """The batch's loss; None where nothing in it is labelled, which would make it 0/0."""
        losses = []
        for logits, target, head in ((ich, ich_target, "ich"), (location, location_target, "location")):
            labelled = target != NOT_LABELLED
            if not labelled.any():
                continue
            losses.append(cross_entropy(logits, target, ignore_index=NOT_LABELLED))
            hits = float((logits.argmax(1) == target)[labelled].sum())
            setattr(self, f"{head}_hits", getattr(self, f"{head}_hits") + hits)
            setattr(self, f"{head}_count", getattr(self, f"{head}_count") + int(labelled.sum()))
        if not losses:
            return None
        loss = torch.stack(losses).sum()
        self.loss += float(loss.detach())
        self.batches += 1
        return loss

    def scores(self) -> Scores:
        def share(total: float, count: int) -> float:
            return total / count if count else math.nan

        return Scores(
            share(self.loss, self.batches),
            share(self.ich_hits, self.ich_count),
            share(self.location_hits, self.location_count),
        )


def _inputs(data: Data, chosen: Sequence[int], transform: augment.Transform, config: TrainConfig) -> Tensor:
    pixels = torch.stack([transform(torch.from_numpy(data.images[i])) for i in chosen])
    return normalise(pixels, config.spec).to(config.device)


def _targets(data: Data, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(N,) int64 each, `NOT_LABELLED` where there is no label."""
    chosen = [data.slices[i] for i in indices]
    ich = [NOT_LABELLED if s.ich is None else int(s.ich) for s in chosen]
    location = [NOT_LABELLED if s.location is None else s.location for s in chosen]
    return torch.tensor(ich), torch.tensor(location)


def _batches(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (indices[i : i + size] for i in range(0, len(indices), size))


def _new_model(config: TrainConfig) -> DTViT:
    if config.init is not None:
        return load_checkpoint(config.init, config.encoder).model
    return DTViT(config.encoder)


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)


def _claim(out: Path, identity: str, config: TrainConfig, split: Split) -> None:
    """Take the folder for this run, or find that it is this run's already."""
    run = out / RUN
    if run.is_file():
        if json.loads(run.read_text(encoding="utf-8"))["identity"] != identity:
            raise ConfigError(f"{out} holds the training of another configuration or data; give another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no training; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "identity": identity,
        "config": config.to_dict(),
        "split": asdict(split),
        "leaked": split.leaked,
    }
    write_atomically(run, json.dumps(facts, indent=1) + "\n")


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[list[Epoch], float]:
    if not path.is_file():
        return [], math.inf
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    history = [
        Epoch(row["epoch"], row["learning_rate"], Scores(**row["train"]), Scores(**row["validation"]))
        for row in state["history"]
    ]
    return history, state["best"]


def _save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: Sequence[Epoch], best: float
) -> None:
    part = path.with_name(f".{path.name}.part")
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(epoch) for epoch in history],
        "best": best,
    }
    torch.save(state, part)
    os.replace(part, path)


def _save_best(model: DTViT, path: Path, config: TrainConfig) -> None:
    part = path.with_name(f"part.{path.name}")
    save_checkpoint(model, part, training=config.training, spec=config.spec)
    os.replace(part, path)

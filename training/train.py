"""Training: cross-entropy on both heads, the location loss only where a location is labelled.

After every epoch the whole state goes to `last.pt` in one step, and the best weights by validation loss to
`best.safetensors`. Each epoch draws its order and its augmentation from the seed and its own number, so that a run that
was interrupted and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.files import make_folder, replaced_file, write_atomically
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import HEAD_LABELS, ICH_HEAD, LOCATION_HEAD, digest_json
from evaluation.images import ImageSet
from evaluation.labels import LabelledSlice, write_labels
from export.checkpoint import load_checkpoint, save_checkpoint
from export.encoder_weights import is_encoder_file, load_encoder
from export.model import DTViT
from training import devices
from training.config import TrainConfig
from training.feed import Feed, feed_of
from training.objective import RunningScores, Scores, TrainingModel
from training.splits import Split, split_by_patient, split_like_the_paper

STATE, BEST, HISTORY, RUN = "last.pt", "best.safetensors", "history.json", "run.json"
HELD_OUT = "held-out.csv"  # the test part as a labelled set of its own, for calibrating and benchmarking on it


@dataclass(frozen=True)
class Epoch:
    """One epoch's row of the history; counts from 1. Its seconds are of training and validation.

    Attributes:
        cpu_seconds: of the process.
        wall_seconds: on a GPU; 0 on a CPU, where they would say what else ran there.
    """

    epoch: int
    learning_rate: float
    train: Scores
    validation: Scores
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @classmethod
    def read(cls, row: dict[str, Any]) -> Epoch:
        """An epoch from its row of a history, of earlier versions too."""
        return cls(**row | {part: Scores(**row[part]) for part in ("train", "validation")})


def make_split(slices: Sequence[LabelledSlice], config: TrainConfig) -> Split:
    """The split that the configuration asks for."""
    seed = config.seed if config.split_seed is None else config.split_seed
    if config.paper_protocol:
        return split_like_the_paper(slices, seed=seed)
    return split_by_patient(slices, seed=seed, test_folds=config.test_folds)


def train(data: ImageSet, config: TrainConfig, out: Path, *, progress: Progress = silent) -> tuple[Epoch, ...]:
    """Train into `out`, from where an interrupted run of the same configuration and data stopped.

    Returns:
        The history, one row an epoch. `out/best.safetensors` holds the best weights by validation loss. A training
        that has got to its end is left as it is.

    Raises:
        ConfigError: `out` holds another run; no such device.
        VerdictError: no epoch ended with a finite validation loss.
    """
    devices.require(config.device)
    split = make_split(data.slices, config)
    identity = config.digest(data.digest)
    _claim_folder(out, identity, config, data.digest, split)
    test = [data.slices[i] for i in sorted(set(split.test))]
    if all(s.file.is_file() for s in test):  # phantoms are no files
        write_labels(out / HELD_OUT, test)
    if done := _finished(out / HISTORY, config):
        return done
    torch.manual_seed(config.seed)
    model, untrained = _initial_model(config, [data.slices[i] for i in split.train])
    training_model = _moved(TrainingModel(model, config.patch_weight), config)
    if config.patch_weight and data.masks is None:
        raise ConfigError("a patch loss needs data with masks")
    _freeze(training_model.model, config.frozen_blocks)
    optimizer = _optimizer(training_model, config)
    scaler = torch.amp.GradScaler(devices.kind(config.device), enabled=config.precision == "fp16")
    history, best = _resume(out / STATE, training_model, optimizer, scaler)
    if history:  # a run that stopped between the two files has an epoch less in the history than in the state
        _write_history(out / HISTORY, history)
    feed = feed_of(data, config)
    for number in range(len(history) + 1, config.epochs + 1):
        began, clock = time.process_time(), devices.WorkClock()
        rate = learning_rate(config, number)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        # Order and augmentation of an epoch depend on its number alone, never on what ran before it.
        torch.manual_seed(int(digest_json([config.seed, number])[:15], 16))
        order = [split.train[i] for i in torch.randperm(len(split.train)).tolist()][: config.epoch_images]
        with progress(f"epoch {number}/{config.epochs}", math.ceil(len(order) / config.batch_size)) as step:
            trained = _train_epoch(training_model, optimizer, scaler, feed, order, config, (step, clock))
        validated = validate(training_model.model, feed, split.validation)
        clock.tick()
        seconds = (
            round(time.process_time() - began, 1),
            round(clock.seconds, 1) if devices.is_fast(config.device) else 0.0,
        )
        history.append(Epoch(number, rate, trained, validated, *seconds))
        if validated.loss < best:
            best = validated.loss
            _save_best(training_model.model, out / BEST, config, untrained)
        _save_state(out / STATE, training_model, optimizer, scaler, history, best)
        _write_history(out / HISTORY, history)
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
def validate(model: DTViT, feed: Feed, indices: Sequence[int]) -> Scores:
    """Loss and accuracy of a part of the data, without augmentation, in fp32."""
    model.eval()
    running = RunningScores()
    for inputs, targets in feed.evaluation(indices):
        ich, location = model(inputs)
        running.add(ich, location, targets)
    return running.scores()


def _train_epoch(
    training_model: TrainingModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    feed: Feed,
    order: Sequence[int],
    config: TrainConfig,
    told: tuple[Callable[[int], None], devices.WorkClock],
) -> Scores:
    training_model.train()
    running = RunningScores()
    step, clock = told
    device_type = devices.kind(config.device)
    half = torch.float16 if config.precision == "fp16" else torch.bfloat16
    for inputs, targets in feed.training(order):
        with torch.autocast(device_type, half, enabled=config.precision != "fp32"):
            ich, location, patches = training_model(inputs)
        loss = running.add(ich.float(), location.float(), targets)
        if loss is not None:
            if patches is not None and targets.masks is not None:
                loss = loss + training_model.patch_loss(patches.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        step(1)
        clock.tick()
    return running.scores()


def _moved(training_model: TrainingModel, config: TrainConfig) -> TrainingModel:
    """The model on its device, in the layout that convolutions like there: a third of a CNN's time on a CPU."""
    if devices.is_fast(config.device):
        torch.backends.cudnn.benchmark = True
    moved: TrainingModel = training_model.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _initial_model(config: TrainConfig, trained_on: Sequence[LabelledSlice]) -> tuple[DTViT, tuple[str, ...]]:
    """The model to train, and the heads that will still be untrained after it for want of labels."""
    untrained = tuple(HEAD_LABELS)
    if config.init is None:
        model = DTViT(config.encoder)
    elif is_encoder_file(config.init):
        model = DTViT(config.encoder)
        load_encoder(model, config.init)
    else:
        checkpoint = load_checkpoint(config.init, config.encoder, to_train=True)
        model, untrained = checkpoint.model, checkpoint.untrained_heads
    labelled = {
        ICH_HEAD: any(s.ich is not None for s in trained_on),
        LOCATION_HEAD: any(s.location is not None for s in trained_on),
    }
    return model, tuple(head for head in untrained if not labelled[head])


def _freeze(model: DTViT, blocks: int) -> None:
    if not blocks:
        return
    encoder_blocks = getattr(model.encoder, "blocks", ())
    if blocks > len(encoder_blocks):
        raise ConfigError(f"{model.encoder_name} has {len(encoder_blocks)} blocks; {blocks} cannot be frozen")
    kept = {id(p) for block in encoder_blocks[blocks:] for p in block.parameters()} | {
        id(p)
        for p in model.encoder.norm.parameters()  # type: ignore[union-attr]
    }
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(id(parameter) in kept)


def _optimizer(training_model: TrainingModel, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW in two groups; each group's `share` is multiplied into its learning rate."""
    encoder = [p for p in training_model.model.encoder.parameters() if p.requires_grad]
    encoder_ids = {id(p) for p in training_model.model.encoder.parameters()}
    groups = [
        {"params": encoder, "share": config.encoder_rate},
        {"params": [p for p in training_model.parameters() if id(p) not in encoder_ids], "share": 1.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    # One kernel for all weights, where a GPU would otherwise spend most of a small model's time on starting many.
    fused = True if devices.kind(config.device) == "cuda" else None
    return torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay, fused=fused)


def _claim_folder(out: Path, identity: str, config: TrainConfig, data: str, split: Split) -> None:
    """Take the folder for this run, or find that it is this run's already."""
    run = out / RUN
    if run.is_file():
        if json.loads(run.read_text(encoding="utf-8"))["identity"] != identity:
            raise ConfigError(f"{out} holds the training of another configuration or data; give another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no training; give another folder")
    make_folder(out)
    facts: dict[str, Any] = {
        "identity": identity,
        "config": config.to_dict(),
        "data": data,
        "split": asdict(split),
        "leaked": split.leaked,
        "device": devices.name_of(config.device),
    }
    write_atomically(run, json.dumps(facts, indent=1) + "\n")


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    write_atomically(path, json.dumps([asdict(epoch) for epoch in history], indent=1) + "\n")


def _finished(path: Path, config: TrainConfig) -> tuple[Epoch, ...]:
    """The history of a training that got to its end; nothing of one that did not, or has no best weights."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    history = tuple(map(Epoch.read, rows))
    good = any(math.isfinite(epoch.validation.loss) for epoch in history)
    return history if good and len(history) == config.epochs else ()


def _resume(
    path: Path, training_model: TrainingModel, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> tuple[list[Epoch], float]:
    if not path.is_file():
        return [], math.inf
    # To the CPU first: loading moves each tensor to where it belongs, and the state of a GPU can be read without one.
    state = torch.load(path, map_location="cpu", weights_only=True)
    training_model.load_state_dict(state["learner"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    return [Epoch.read(row) for row in state["history"]], state["best"]


def _save_state(
    path: Path,
    training_model: TrainingModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: Sequence[Epoch],
    best: float,
) -> None:
    state = {
        "learner": training_model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "history": [asdict(epoch) for epoch in history],
        "best": best,
    }
    with replaced_file(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # PyTorch's words for a disk that takes no more
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from error


def _save_best(model: DTViT, path: Path, config: TrainConfig, untrained: Sequence[str]) -> None:
    save_checkpoint(
        model,
        path,
        training=config.training,
        dtype=torch.float16 if config.half_weights else torch.float32,
        spec=config.spec,
        untrained_heads=untrained,
    )

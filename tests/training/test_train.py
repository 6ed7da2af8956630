"""Training on a tiny model: it learns, it resumes to the same weights, and it says what it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError, DiskFault, VerdictError
from evaluation.images import ImageSet
from evaluation.labels import read_labels
from export.checkpoint import load_checkpoint, save_checkpoint
from export.model import DTViT, normalise
from export.trimmed import TrimmedViT
from tests.support.squares import SMALL
from training import augment
from training import train as module
from training.config import TrainConfig
from training.feed import HostFeed
from training.objective import NOT_LABELLED, Targets, TrainingModel
from training.train import BEST, HELD_OUT, HISTORY, RUN, STATE, learning_rate, make_split, train, validate

CONFIG = TrainConfig(
    encoder="test_vit",
    training="synthetic",
    epochs=3,
    batch=8,
    augment=True,
    learning_rate=0.01,
    momentum=0.9,
    epoch_images=24,
)
# Every image of an epoch, and small ones.
LEARNING = replace(
    CONFIG, encoder="test_resnet", spec=SMALL, optimizer="adamw", learning_rate=0.003, epochs=6, epoch_images=None,
    augment=False,
)  # fmt: skip


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def test_history_checkpoint_and_run_say_what_was_done(squares: ImageSet, tmp_path: Path) -> None:
    history = train(squares, CONFIG, tmp_path / "out")
    assert [e.epoch for e in history] == [1, 2, 3]
    assert all(0 <= e.train.ich_accuracy <= 1 and e.train.loss > 0 for e in history)
    rows = json.loads((tmp_path / "out" / HISTORY).read_text())
    assert rows[-1]["validation"]["loss"] == history[-1].validation.loss
    checkpoint = load_checkpoint(tmp_path / "out" / BEST)
    assert (checkpoint.training, checkpoint.spec, checkpoint.model.encoder_name) == (
        "synthetic",
        CONFIG.spec,
        "test_vit",
    )
    best = min(e.validation.loss for e in history)
    judged = validate(checkpoint.model, HostFeed(squares, CONFIG), make_split(squares.slices, CONFIG).validation)
    assert judged.loss == pytest.approx(best, abs=1e-5)
    assert json.loads((tmp_path / "out" / RUN).read_text())["config"]["optimizer"] == "sgd"


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_with_the_same_weights(
    squares: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    config = replace(CONFIG, optimizer=optimizer, learning_rate=0.003, schedule="cosine", warmup_epochs=1)
    train(squares, config, tmp_path / "whole")

    def stopping(after: int) -> Callable[..., object]:
        done = []

        def step(*arguments: object) -> object:
            if len(done) == after:
                raise Stop
            done.append(1)
            return original(*arguments)

        original = module._train_epoch
        return step

    for after in (0, 1, 1):  # stopped in the first epoch, then in the second, then in the third
        with monkeypatch.context() as patched:
            patched.setattr(module, "_train_epoch", stopping(after))
            with pytest.raises(Stop):
                train(squares, config, tmp_path / "parts")
        torch.manual_seed(999)  # whatever else a process may have drawn
    train(squares, config, tmp_path / "parts")
    for name in (STATE,):
        one = torch.load(tmp_path / "whole" / name, weights_only=True)
        two = torch.load(tmp_path / "parts" / name, weights_only=True)
        for side in (one, two):
            assert all(epoch.pop("cpu_seconds") >= 0 for epoch in side["history"])
        assert one["history"] == two["history"]
        assert all(torch.equal(one["learner"][k], two["learner"][k]) for k in one["learner"])
    one, two = weights(tmp_path / "whole" / BEST), weights(tmp_path / "parts" / BEST)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert (tmp_path / "whole" / BEST).read_bytes() == (tmp_path / "parts" / BEST).read_bytes()


def test_a_history_that_lacks_the_last_epoch_of_the_state_is_completed(
    small_squares: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, original = replace(LEARNING, epochs=1, epoch_images=8), module.write_atomically

    def stopping(path: Path, content: str) -> None:
        if path.name == HISTORY:
            raise DiskFault("full")
        original(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_atomically", stopping)
        with pytest.raises(DiskFault):
            train(small_squares, config, tmp_path)
    assert (tmp_path / STATE).is_file() and not (tmp_path / HISTORY).exists()
    train(small_squares, config, tmp_path)
    assert len(json.loads((tmp_path / HISTORY).read_text())) == 1


def test_a_patch_is_asked_for_its_share_of_blood_in_the_slices_location() -> None:
    training_model = TrainingModel(DTViT(CONFIG.encoder), 2.0)
    masks = torch.zeros(3, 224, 224, dtype=torch.uint8)
    masks[:2, :16, :8] = 1  # half of the first patch
    targets = Targets(torch.tensor([1, 1, 0]), torch.tensor([1, NOT_LABELLED, NOT_LABELLED]), masks)
    logits = torch.zeros(3, 196, 4)
    logits[..., 0] = 30.0  # sure of no blood anywhere
    logits[0, 0] = torch.tensor([0.0, -30.0, 0.0, -30.0])  # but for one patch: none, or lobar
    everywhere = 3 * 196 - 1  # the outlined patch of the slice without a location counts nowhere
    expected = 2.0 * math.log(2) / everywhere
    assert training_model.patch_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)
    targets.location[0] = 0
    assert training_model.patch_loss(logits, targets).item() > 20 * expected


def test_those_held_out_become_a_labelled_set(squares: ImageSet, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, test_folds=2)
    files = [tmp_path / f"{place}.png" for place in range(len(squares.slices))]
    for file in files:
        file.touch()
    slices = [replace(s, file=file) for s, file in zip(squares.slices, files, strict=True)]
    train(replace(squares, slices=slices), config, tmp_path / "out")
    held_out = read_labels(tmp_path / "out" / HELD_OUT)
    test = [slices[i] for i in make_split(slices, config).test]
    assert [(s.patient, s.ich, s.location) for s in held_out] == [(s.patient, s.ich, s.location) for s in test]
    assert all(a.file.samefile(b.file) for a, b in zip(held_out, test, strict=True))
    train(squares, config, tmp_path / "no files")
    assert not (tmp_path / "no files" / HELD_OUT).exists()


def test_masks_turn_with_the_image_and_outlines_teach(squares: ImageSet, tmp_path: Path) -> None:
    turned = augment.batch(squares, range(6), augment.training(CONFIG.spec), masks=True)
    for pixels, mask in zip(*turned, strict=True):
        inside = mask.bool()
        assert not inside.any() or pixels[0][inside].float().mean() > 200
        assert pixels[0][~inside].float().mean() < 100
    config = replace(
        CONFIG, optimizer="adamw", learning_rate=0.003, epochs=4, epoch_images=None, augment=False, patch_weight=10.0
    )
    train(squares, config, tmp_path / "out")
    training_model = TrainingModel(DTViT(config.encoder), config.patch_weight)
    training_model.load_state_dict(torch.load(tmp_path / "out" / STATE, weights_only=True)["learner"])
    pixels, masks = augment.batch(squares, range(12), augment.evaluation(config.spec), masks=True)
    with torch.no_grad():
        _, _, patches = training_model.eval()(normalise(pixels, config.spec))
    share = torch.nn.functional.avg_pool2d(masks[:, None].float(), 16).flatten(1)
    blood = patches[..., 1:].logsumexp(2) - patches[..., 0]
    assert blood[share == 1].mean() > blood[share == 0].mean() + 2
    with pytest.raises(ConfigError, match="masks"):
        train(replace(squares, masks=None), config, tmp_path / "none")
    with pytest.raises(ConfigError, match="no patch tokens"):
        train(squares, replace(config, encoder="test_resnet"), tmp_path / "convolutions")


def test_frozen_blocks_stay_and_the_rest_moves(squares: ImageSet, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, frozen_blocks=4, encoder_rate=0.5)
    train(squares, config, tmp_path / "out")
    torch.manual_seed(config.seed)
    fresh, trained = DTViT(config.encoder).state_dict(), weights(tmp_path / "out" / BEST)
    moved = {k for k in fresh if not torch.equal(fresh[k], trained[k])}
    frozen = ("encoder.patch_embed", "encoder.cls_token", "encoder.pos_embed",
              *(f"encoder.blocks.{i}." for i in range(4)))  # fmt: skip
    assert not [k for k in moved if k.startswith(frozen)]
    assert {"encoder.blocks.5.mlp.fc2.weight", "encoder.norm.weight", "ich_head.0.weight"} <= moved
    with pytest.raises(ConfigError, match="has 6 blocks"):
        train(squares, replace(config, frozen_blocks=7), tmp_path / "more")


def test_a_vit_that_leaves_out_empty_patches_is_trained_from_a_plain_ones_weights(
    squares: ImageSet, tmp_path: Path
) -> None:
    start, out = tmp_path / "plain.safetensors", tmp_path / "out"
    save_checkpoint(DTViT(CONFIG.encoder), start, training="synthetic")
    more = {"epochs": 1, "frozen_blocks": 4, "patch_weight": 1.0, "init": start}
    config = replace(CONFIG, encoder=f"trimmed_{CONFIG.encoder}", **more)
    train(squares, config, out)
    model = load_checkpoint(out / BEST).model
    assert model.encoder_name == config.encoder and isinstance(model.encoder, TrimmedViT)
    before, after = weights(start), model.state_dict()
    assert torch.equal(before["encoder.blocks.3.mlp.fc2.weight"], after["encoder.blocks.3.mlp.fc2.weight"])
    assert not torch.equal(before["encoder.blocks.5.mlp.fc2.weight"], after["encoder.blocks.5.mlp.fc2.weight"])


def test_half_weights_are_the_same_weights_rounded(squares: ImageSet, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1)
    train(squares, config, tmp_path / "whole")
    train(squares, replace(config, half_weights=True), tmp_path / "half")
    whole, half = weights(tmp_path / "whole" / BEST), weights(tmp_path / "half" / BEST)
    assert all(torch.equal(whole[k].half().float(), half[k]) for k in whole)
    assert (tmp_path / "half" / BEST).stat().st_size < 0.55 * (tmp_path / "whole" / BEST).stat().st_size


# float16 is slow on a CPU: two minutes, which belong with the tests that other people's libraries take.
@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.real)])
def test_mixed_precision_learns_too(small_squares: ImageSet, tmp_path: Path, precision: str) -> None:
    history = train(small_squares, replace(LEARNING, epochs=4, precision=precision), tmp_path / "out")
    assert history[-1].train.loss < 0.7 * history[0].train.loss


def test_it_learns_the_squares(small_squares: ImageSet, tmp_path: Path) -> None:
    history = train(small_squares, LEARNING, tmp_path / "out")
    assert history[-1].train.loss < 0.5 * history[0].train.loss


def test_a_head_without_labels_is_left_alone(squares: ImageSet, tmp_path: Path) -> None:
    blind = ImageSet([replace(s, location=None) for s in squares.slices], squares.images, "no locations")
    config = replace(CONFIG, epochs=1)
    history = train(blind, config, tmp_path / "out")
    assert math.isnan(history[0].train.location_accuracy)
    assert math.isfinite(history[0].train.loss)
    torch.manual_seed(config.seed)
    fresh = DTViT(config.encoder).state_dict()
    trained = weights(tmp_path / "out" / BEST)
    heads = [k for k in fresh if k.startswith("location_head")]
    assert heads
    assert all(torch.equal(fresh[k], trained[k]) for k in heads)
    assert load_checkpoint(tmp_path / "out" / BEST).untrained_heads == ("location",)


def test_another_configuration_or_data_is_refused(squares: ImageSet, tmp_path: Path) -> None:
    train(squares, replace(CONFIG, epochs=1), tmp_path / "out")
    for config, other in (
        (replace(CONFIG, epochs=1, seed=1), squares),
        (replace(CONFIG, epochs=1), replace(squares, digest="x")),
    ):
        with pytest.raises(ConfigError, match="another configuration or data"):
            train(other, config, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(ConfigError, match="holds no training"):
        train(squares, CONFIG, tmp_path / "full")


def test_a_training_that_diverges_is_no_success(squares: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="finite validation loss"):
        train(squares, replace(CONFIG, epochs=1, learning_rate=1e30), tmp_path / "out")
    assert not (tmp_path / "out" / BEST).exists()


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_disk_that_takes_no_more_of_the_state_is_said_and_leaves_the_state_before(tmp_path: Path) -> None:
    import resource

    network = torch.nn.Linear(300, 300)
    arguments: tuple[Any, ...] = (network, torch.optim.SGD(network.parameters()), torch.amp.GradScaler("cpu"), [], 0.0)
    module._save_state(tmp_path / "last.pt", *arguments)
    before = (tmp_path / "last.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(DiskFault, match="File too large"):
            module._save_state(tmp_path / "last.pt", *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["last.pt"] and (tmp_path / "last.pt").read_bytes() == before


def test_the_learning_rate_warms_up_and_falls() -> None:
    config = replace(CONFIG, epochs=6, warmup_epochs=2, schedule="cosine", learning_rate=0.1)
    rates = [learning_rate(config, e) for e in range(1, 7)]
    assert rates[0] < rates[1] < rates[2] == 0.1
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0
    constant = replace(config, schedule="constant")
    assert {learning_rate(constant, e) for e in range(3, 7)} == {0.1}


def test_the_papers_batch_sizes_are_the_defaults() -> None:
    assert TrainConfig(augment=True).batch_size == 32
    assert TrainConfig(augment=False).batch_size == 8
    assert (TrainConfig().epochs, TrainConfig().learning_rate, TrainConfig().optimizer) == (50, 0.01, "sgd")


@pytest.mark.parametrize(
    "change", [{"optimizer": "lion"}, {"epochs": 0}, {"warmup_epochs": 3}, {"training": "x"}, {"precision": "int8"}]
)
def test_impossible_configurations_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_the_command_trains_on_phantoms(few_phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(few_phantoms), "-o", str(tmp_path / "out"), "--encoder", "test_vit"]
    assert main(["-q", *arguments, "--training", "synthetic", "--epochs", "1", "--workers", "1"]) == 0
    assert str(tmp_path / "out" / BEST) in capsys.readouterr().out


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf")])
def test_a_learning_rate_that_trains_nothing_is_refused_before_anything_is_trained(rate: float) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        TrainConfig(learning_rate=rate)

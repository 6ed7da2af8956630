"""Training on a tiny model: it learns, it resumes to the same weights, and it says what it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.paper import train as module
from benchmarks.paper.config import TrainConfig
from benchmarks.paper.images import Data
from benchmarks.paper.labels import LabelledSlice
from benchmarks.paper.train import BEST, HISTORY, RUN, STATE, evaluate, learning_rate, make_split, train
from dtvit_edge.cli import main
from dtvit_edge.errors import ConfigError, VerdictError
from export.checkpoint import load_checkpoint
from export.model import DTViT

CONFIG = TrainConfig(
    encoder="test_vit", training="synthetic", epochs=3, batch=8, augment=True, learning_rate=0.01, momentum=0.9
)


@pytest.fixture(scope="module")
def data() -> Data:
    """Noise with a bright square in one of three corners, or none: 24 patients of 4 slices."""
    rng = np.random.default_rng(0)
    slices, images = [], []
    for i in range(96):
        location = i % 6 if i % 6 < 3 else None
        image = rng.integers(60, 100, (1, 256, 256), dtype=np.uint8)
        if location is not None:
            y, x = ((60, 60), (60, 160), (160, 60))[location]
            image[0, y : y + 48, x : x + 48] = 230
        slices.append(LabelledSlice(Path("x"), str(i), f"P{i // 4}", location is not None, location))
        images.append(image)
    return Data(slices, images, "squares")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def test_history_checkpoint_and_run_say_what_was_done(data: Data, tmp_path: Path) -> None:
    history = train(data, CONFIG, tmp_path / "out")
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
    judged = evaluate(checkpoint.model, data, make_split(data.slices, CONFIG).validation, CONFIG)
    assert judged.loss == pytest.approx(best, abs=1e-5)
    assert json.loads((tmp_path / "out" / RUN).read_text())["config"]["optimizer"] == "sgd"


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_with_the_same_weights(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    config = replace(CONFIG, optimizer=optimizer, learning_rate=0.003, schedule="cosine", warmup_epochs=1)
    train(data, config, tmp_path / "whole")

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
                train(data, config, tmp_path / "parts")
        torch.manual_seed(999)  # whatever else a process may have drawn
    train(data, config, tmp_path / "parts")
    for name in (STATE,):
        one = torch.load(tmp_path / "whole" / name, weights_only=True)
        two = torch.load(tmp_path / "parts" / name, weights_only=True)
        assert one["history"] == two["history"]
        assert all(torch.equal(one["model"][k], two["model"][k]) for k in one["model"])
    one, two = weights(tmp_path / "whole" / BEST), weights(tmp_path / "parts" / BEST)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert (tmp_path / "whole" / BEST).read_bytes() == (tmp_path / "parts" / BEST).read_bytes()


def test_it_learns_the_squares(data: Data, tmp_path: Path) -> None:
    config = replace(CONFIG, encoder="test_resnet", optimizer="adamw", learning_rate=0.003, epochs=6, augment=False)
    history = train(data, config, tmp_path / "out")
    assert history[-1].train.loss < 0.5 * history[0].train.loss


def test_a_head_without_labels_is_left_alone(data: Data, tmp_path: Path) -> None:
    blind = Data([replace(s, location=None) for s in data.slices], data.images, "no locations")
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


def test_another_configuration_or_data_is_refused(data: Data, tmp_path: Path) -> None:
    train(data, replace(CONFIG, epochs=1), tmp_path / "out")
    for config, other in (
        (replace(CONFIG, epochs=1, seed=1), data),
        (replace(CONFIG, epochs=1), replace(data, digest="x")),
    ):
        with pytest.raises(ConfigError, match="another configuration or data"):
            train(other, config, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(ConfigError, match="holds no training"):
        train(data, CONFIG, tmp_path / "full")


def test_a_training_that_diverges_is_no_success(data: Data, tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="finite validation loss"):
        train(data, replace(CONFIG, epochs=1, learning_rate=1e30), tmp_path / "out")
    assert not (tmp_path / "out" / BEST).exists()


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


def test_the_command_trains_on_phantoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import csv

    from dtvit_edge.phantom import write_phantoms

    with write_phantoms(tmp_path / "in", studies=2, seed=5).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (tmp_path / "in" / "few.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "patient", "ich", "location"])
        for i, row in enumerate(rows[:30]):  # ten patients, so that they can be split
            writer.writerow([row["path"], f"P{i % 10}", row["ich"], row["location"]])
    arguments = ["train", str(tmp_path / "in" / "few.csv"), "-o", str(tmp_path / "out"), "--encoder", "test_vit"]
    assert main(["-q", *arguments, "--training", "synthetic", "--epochs", "1", "--workers", "1"]) == 0
    assert str(tmp_path / "out" / BEST) in capsys.readouterr().out

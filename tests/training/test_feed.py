"""What a GPU is fed with, seen on a CPU: the same bytes as image by image, and draws of the same distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dtvit_edge.errors import ConfigError
from evaluation.images import ImageSet
from export.checkpoint import load_checkpoint
from tests.support.squares import SMALL
from training import augment, devices, feed
from training.config import TrainConfig
from training.feed import DeviceFeed, HostFeed, feed_of
from training.objective import NOT_LABELLED, RunningScores, Targets
from training.train import BEST, train

from torchvision.transforms.v2 import InterpolationMode, functional  # isort: skip

CONFIG = TrainConfig(encoder="test_resnet", training="synthetic", batch=8, spec=SMALL)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 1, 61, 73), dtype=np.uint8))


@pytest.mark.parametrize("mode", [InterpolationMode.BILINEAR, InterpolationMode.NEAREST])
def test_a_batch_is_turned_as_torchvision_turns_each(noise: torch.Tensor, mode: InterpolationMode) -> None:
    degrees = torch.tensor([-15.0, -7.3, 0.01, 3.0, 14.9])
    together = augment.rotated(noise, degrees, mode=mode.value)
    alone = [functional.rotate(i, float(d), interpolation=mode) for i, d in zip(noise, degrees, strict=True)]
    apart = (together.int() - torch.stack(alone).int()).abs()
    assert float((apart > 1).float().mean()) < 0.001, "a pixel may fall on the other side of a rounding"


def test_a_batch_is_sharpened_as_torchvision_sharpens_each(noise: torch.Tensor) -> None:
    expected = functional.adjust_sharpness(noise, augment.SHARPNESS_FACTOR)
    assert int((augment.sharpened(noise).int() - expected.int()).abs().max()) <= 1


def test_each_image_of_a_batch_has_its_own_draw_and_its_mask_turns_with_it(squares: ImageSet) -> None:
    torch.manual_seed(0)
    pixels = torch.from_numpy(squares.images[0])[None].repeat(40, 1, 1, 1)
    assert squares.masks is not None
    masks = torch.from_numpy(squares.masks[0])[None].repeat(40, 1, 1)
    turned, outlined = augment.together(pixels, masks, TrainConfig().spec, flip=True)
    assert outlined is not None and turned.shape == (40, 1, 224, 224) and outlined.shape == (40, 224, 224)
    assert len({image.numpy().tobytes() for image in turned}) == 40
    sides = {bool(mask[:, :112].sum() > mask[:, 112:].sum()) for mask in outlined}
    assert sides == {True, False}, "about half of them are mirrored"
    for image, mask in zip(turned[:, 0], outlined.bool(), strict=True):
        assert image[mask].float().mean() > 200 and image[~mask].float().mean() < 100


def test_a_device_is_fed_what_the_host_would_have_fed(small_squares: ImageSet) -> None:
    slices = [replace(s, ich=None) if i % 5 == 0 else s for i, s in enumerate(small_squares.slices)]
    data = replace(small_squares, slices=slices)
    for config in (CONFIG, replace(CONFIG, augment=False)):
        one, other = HostFeed(data, config), DeviceFeed(data, config)
        order = list(range(20, 0, -1))
        ways = [(f.training(order) if not config.augment else f.evaluation(order)) for f in (one, other)]
        for (x, targets), (y, told) in zip(*ways, strict=True):
            assert torch.allclose(x, y, atol=1e-6)
            assert torch.equal(targets.ich, told.ich) and torch.equal(targets.location, told.location)
            asked = [int((t != NOT_LABELLED).sum()) for t in (targets.ich, targets.location)]
            assert told.counts == tuple(asked)


def test_scores_are_the_same_whether_the_counts_are_known_or_asked_for() -> None:
    ich, location = torch.randn(6, 2), torch.randn(6, 3)
    truth = torch.tensor([1, 0, NOT_LABELLED, 1, 0, 1]), torch.tensor([2, NOT_LABELLED, 0, 1, NOT_LABELLED, 1])
    scores = []
    for counts in (None, (5, 4)):
        running = RunningScores()
        running.add(ich, location, Targets(*truth, counts=counts))
        scores.append(running.scores())
    assert scores[0] == scores[1] and scores[0].loss > 0


def test_only_a_gpu_has_its_images_on_it_and_only_those_of_one_size(
    small_squares: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(feed_of(small_squares, CONFIG), HostFeed)
    monkeypatch.setattr(feed, "is_fast", lambda device: True)
    assert isinstance(feed_of(small_squares, CONFIG), DeviceFeed)
    odd = [*small_squares.images[:-1], np.zeros((1, 80, 73), np.uint8)]
    assert isinstance(feed_of(replace(small_squares, images=odd), CONFIG), HostFeed)


def test_a_stop_between_two_steps_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.5, 2.5 + 12 * 60, 2.5 + 12 * 60 + 1])
    monkeypatch.setattr(devices.time, "perf_counter", lambda: next(times))
    clock = devices.WorkClock()
    for _ in range(4):
        clock.tick()
    assert clock.seconds == pytest.approx(3.5)


def test_the_way_of_a_gpu_learns_the_squares_and_says_its_time(
    small_squares: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (feed, devices):
        monkeypatch.setattr(module, "is_fast", lambda device: True)
    config = replace(CONFIG, augment=False, optimizer="adamw", learning_rate=0.003, epochs=3, epoch_images=64)
    history = train(small_squares, config, tmp_path)
    assert history[-1].train.loss < 0.7 * history[0].train.loss
    assert all(epoch.wall_seconds > 0 for epoch in history)
    assert all(
        np.isfinite(value.numpy()).all() for value in load_checkpoint(tmp_path / BEST).model.state_dict().values()
    )


def test_a_device_that_is_not_here_is_said(small_squares: ImageSet, tmp_path: Path) -> None:
    for device, said in (("gpu", "no PyTorch device"), ("xpu" if torch.cuda.is_available() else "cuda", "no device")):
        with pytest.raises(ConfigError, match=said):
            train(small_squares, replace(CONFIG, device=device), tmp_path / "out")
    assert not (tmp_path / "out").exists()

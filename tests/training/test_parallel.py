"""Trainings in processes of their own: the same weights, and answers that need no weights."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.spec import digest_file
from evaluation.images import ImageSet
from export.checkpoint import save_checkpoint
from export.model import DTViT
from tests.support.squares import SMALL
from training import parallel
from training.answers import ANSWERS, keep, kept_of
from training.config import TrainConfig
from training.evaluate import TrainingRun, evaluate_model, spec_of
from training.train import BEST, STATE, train

CONFIG = TrainConfig(
    encoder="test_resnet", training="synthetic", epochs=1, epoch_images=16, batch=8, learning_rate=0.003, spec=SMALL
)


def in_worker(data: ImageSet, config: TrainConfig, out: Path, name: str) -> Path:
    """What a worker does, in this process."""
    with parallel._on_disk(data, out) as shared:
        parallel._open(*shared, 1)
        parallel._train_one(config, out / name)
        parallel._shared.clear()
    return out / name


@pytest.fixture(scope="module")
def trained(small_squares: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a worker's training; read-only."""
    return in_worker(small_squares, CONFIG, tmp_path_factory.mktemp("trained"), "run")


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_worker_trains_the_same_weights_from_the_mapped_images(
    small_squares: ImageSet, trained: Path, tmp_path: Path
) -> None:
    train(small_squares, CONFIG, tmp_path / "alone")
    assert (trained / BEST).read_bytes() == (tmp_path / "alone" / BEST).read_bytes()
    assert not (trained / STATE).exists() and [f.name for f in trained.parent.iterdir()] == ["run"]


def test_a_training_is_judged_by_its_answers_where_its_weights_are_not(
    small_squares: ImageSet, folder: Path, tmp_path: Path
) -> None:
    (folder / ANSWERS).rename(tmp_path / "aside")
    computed = evaluate_model(folder, small_squares)
    (tmp_path / "aside").rename(folder / ANSWERS)
    (folder / BEST).unlink()
    read = evaluate_model(folder, small_squares)
    assert spec_of([folder]) == SMALL
    assert (read.sha256, read.encoder, read.slices) == (computed.sha256, "test_resnet", computed.slices)
    assert np.array_equal(read.ich_probability, computed.ich_probability)
    assert np.array_equal(read.location_probability, computed.location_probability)
    history = train(small_squares, CONFIG, folder)
    assert len(history) == 1 and not (folder / BEST).exists(), "it got to its end, and is not trained again"


def test_answers_of_other_weights_are_not_taken_and_damaged_ones_are_said(
    small_squares: ImageSet, folder: Path
) -> None:
    torch.manual_seed(1)
    save_checkpoint(DTViT("test_resnet"), folder / BEST, training="synthetic", spec=SMALL)
    assert evaluate_model(folder, small_squares).sha256 == digest_file(folder / BEST)
    (folder / ANSWERS).write_bytes(b"PK no archive")
    with pytest.raises(ConfigError, match="not the answers of a training"):
        evaluate_model(folder, small_squares)


def test_answers_of_another_encoder_are_refused_where_no_weights_tell(small_squares: ImageSet, folder: Path) -> None:
    kept = kept_of(folder, TrainingRun.read(folder).split["test"])
    assert kept is not None
    (folder / BEST).unlink()
    assert evaluate_model(folder, small_squares).encoder == kept.encoder
    keep(folder, replace(kept, encoder="resnet18"))
    with pytest.raises(ConfigError, match="of resnet18, not of"):
        evaluate_model(folder, small_squares)


def test_answers_that_are_damaged_anywhere_or_no_probabilities_are_refused_in_words(folder: Path) -> None:
    whole, test = (folder / ANSWERS).read_bytes(), TrainingRun.read(folder).split["test"]
    kept = kept_of(folder, test)
    assert kept is not None
    said = set()
    for place in range(0, len(whole), 7):
        (folder / ANSWERS).write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            kept_of(folder, test)
        except ConfigError as error:
            said.add(type(error.__cause__.__cause__) if error.__cause__ else None)
    assert {zlib.error, NotImplementedError} <= said, "what the archive's checksums do not see first"
    for wrong in (
        replace(kept, ich=kept.ich[1:]),
        replace(kept, location=kept.ich),
        replace(kept, ich=kept.ich * np.nan),
    ):
        keep(folder, wrong)
        with pytest.raises(ConfigError, match=r"shapes|not finite"):
            kept_of(folder, test)
    (folder / ANSWERS).write_bytes(b"")
    with pytest.raises(ConfigError, match="not the answers"):
        kept_of(folder, test)


@pytest.mark.real  # fresh interpreters load PyTorch
def test_what_fails_is_raised_after_the_others_were_trained(small_squares: ImageSet, tmp_path: Path) -> None:
    bad = replace(CONFIG, encoder="no_such_encoder")
    done = []
    with pytest.raises(ConfigError, match="no_such_encoder"):
        for name in parallel.train_together(small_squares, [("bad", bad), ("good", CONFIG)], tmp_path, jobs=1):
            done.append(name)
    assert done == ["good"] and (tmp_path / "good" / ANSWERS).is_file()


def test_images_that_a_killed_process_left_go_and_those_of_one_that_runs_stay(
    small_squares: ImageSet, tmp_path: Path
) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    left, used = (tmp_path / f".images-{pid}-x" for pid in (ended.pid, os.getppid()))
    for folder in (left, used):
        folder.mkdir()
    with parallel._on_disk(small_squares, tmp_path):
        assert not left.exists() and used.exists()


def _kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.real  # fresh interpreters load PyTorch
def test_a_killed_process_is_said_in_words(
    small_squares: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_train_one", _kill)
    with pytest.raises(DeviceFault, match="killed or crashed"):
        list(parallel.train_together(small_squares, [("a", CONFIG)], tmp_path, jobs=1))


_WORKER = """
import multiprocessing as m, os, sys, time
from training import parallel
def run(ends):
    print(os.getpid(), flush=True)
    parallel._end_with(ends)
if __name__ == "__main__":
    ends, stop = m.get_context("spawn").Pipe(duplex=False)
    m.get_context("spawn").Process(target=run, args=(ends,)).start()
    time.sleep(60)
"""


@pytest.mark.real  # fresh interpreters load PyTorch
def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(_WORKER)
    environment = os.environ | {"PYTHONPATH": str(Path(parallel.__file__).parents[1])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as starter:
        assert starter.stdout
        worker = int(starter.stdout.readline())
        starter.kill()
    for _ in range(100):
        if not _runs(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker went on")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

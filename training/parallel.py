"""Several trainings of one plan at a time, each in a process of its own, over images that are held once.

The images lie in a file that every process maps. The processes are fresh interpreters, since a fork of one in which
PyTorch has threads, or a GPU, can hang for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dtvit_edge.errors import DeviceFault
from dtvit_edge.files import is_another_process, make_folder, replaced_file
from evaluation.images import ImageSet
from training.config import TrainConfig
from training.evaluate import keep_answers
from training.train import STATE, train

_IMAGES = ".images-"
Arrays = Sequence[NDArray[np.uint8]]

_shared: list[ImageSet] = []  # of a worker: the one set that it trains on


def train_together(
    data: ImageSet, plan: Sequence[tuple[str, TrainConfig]], out: Path, *, jobs: int, threads: int = 1
) -> Iterator[str]:
    """Train every folder of a plan below `out`, `jobs` at a time in the plan's order; the names as they finish.

    Each folder also keeps its answers to the test part (`answers`), and no state to go on from once it got to its end.
    What fails is raised after all others were trained.

    Raises:
        DeviceFault: a process was killed, which ends all of them; the same call goes on.
    """
    failed: list[BaseException] = []
    spawn = multiprocessing.get_context("spawn")
    ends, stop = spawn.Pipe(duplex=False)  # closed, here or by this process's end, it ends the workers
    with (
        ends,
        stop,
        _on_disk(data, out) as shared,
        ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_open, initargs=(*shared, threads, ends)) as pool,
    ):
        running: dict[Future[None], str] = {pool.submit(_train_one, config, out / name): name for name, config in plan}
        try:
            for done in as_completed(running):
                if isinstance(error := done.exception(), BrokenProcessPool):
                    raise DeviceFault(
                        "a process that trained was killed or crashed, most often for want of memory; the same "
                        "command goes on, with fewer --jobs if need be"
                    ) from error
                if error is not None:
                    failed.append(error)
                else:
                    yield running[done]
        except BaseException:  # Ctrl-C too: the pool would train all that is left before it let go
            stop.close()
            raise
    if failed:
        raise failed[0]


@contextmanager
def _on_disk(data: ImageSet, out: Path) -> Iterator[tuple[ImageSet, Path, list[tuple[int, ...]], bool]]:
    """The set without its images, their file, their shapes and whether there are masks."""
    make_folder(out)
    for left in out.glob(f"{_IMAGES}*"):  # by a process that was killed
        pid = left.name.split("-")[1]
        if pid.isdigit() and not is_another_process(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_IMAGES}{os.getpid()}-", dir=out) as folder:
        file = Path(folder) / "images"
        with replaced_file(file) as stream:
            for array in (*data.images, *(data.masks or ())):
                stream.write(np.ascontiguousarray(array).data)
        shapes = [image.shape for image in data.images]
        yield replace(data, images=[], masks=None), file, shapes, data.masks is not None


def _open(
    data: ImageSet,
    file: Path,
    shapes: Sequence[tuple[int, ...]],
    masks: bool,
    threads: int,
    ends: Connection | None = None,
) -> None:
    """Map the images; runs in a worker."""
    if ends is not None:
        # Else a worker whose parent was killed trains on, in the folders in which the next command goes on.
        threading.Thread(target=_end_with, args=(ends,), daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, to all of them: the parent's to answer
    torch.set_num_threads(threads)
    mapped = np.memmap(file, np.uint8, "c")  # PyTorch takes no read-only arrays; nobody writes
    images, at = _views(mapped, shapes, 0)
    outlined = _views(mapped, [shape[-2:] for shape in shapes], at)[0] if masks else None
    _shared[:] = [replace(data, images=images, masks=outlined)]


def _end_with(ends: Connection) -> None:
    wait([ends])
    os._exit(1)


def _views(mapped: NDArray[np.uint8], shapes: Sequence[tuple[int, ...]], at: int) -> tuple[Arrays, int]:
    views = []
    for shape in shapes:
        size = int(np.prod(shape))
        views.append(np.asarray(mapped[at : at + size]).reshape(shape))
        at += size
    return views, at


def _train_one(config: TrainConfig, folder: Path) -> None:
    """Runs in a worker."""
    (data,) = _shared
    train(data, config, folder)
    keep_answers(folder, data)
    (folder / STATE).unlink(missing_ok=True)  # three times the weights, of every training
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # for the processes beside this one

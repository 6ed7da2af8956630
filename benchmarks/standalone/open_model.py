"""What a call of an open model costs beside inference, and whether many threads change its answers or leak.

    python -m benchmarks.standalone.open_model BUNDLE STUDIES [--rounds N] [--callers N] [--slices N]

First every way to score one slice is called in turn in one process, a hundred rounds after five that are not counted,
beside the inference that it needs: preprocessing and the model on an executor of its own, from pixels in memory. Times
are CPU time of the process, all threads together, in ms; what a call costs beside inference is the median of the
differences within a round, and the difference of the least times, which a busy machine lengthens less. Then many
threads score single slices of STUDIES at once, by file, dataset, bytes and array in turn; each answer is compared with
the one that it had alone, and memory and descriptors are looked at before and after. Nothing is recorded.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pydicom

from benchmarks.measure.inputs import discover_slices
from benchmarks.measure.interleaving import alternate
from benchmarks.standalone.leak import open_files, resident_bytes
from benchmarks.standalone.program import start
from dtvit_edge import open_model
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.scoring.api import StudyResult, headers_of, open_backend, open_executor
from dtvit_edge.scoring.model import Model

UNCOUNTED = 5
WAYS = ("file", "dataset", "bytes", "volume")


class OneSlice:
    """One file of DICOM, in every form that a model takes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.bytes = file.read_bytes()
        self.dataset = pydicom.dcmread(file)
        self.slice = SliceReader().read(read_headers(file, file.name)[0])
        pixels = self.dataset.pixel_array
        self.hu = pixels * float(self.dataset.RescaleSlope) + float(self.dataset.RescaleIntercept)
        self.spacing = (5.0, *map(float, self.dataset.PixelSpacing))

    def score(self, model: Model, way: str) -> StudyResult:
        """Its result by one of `WAYS`."""
        if way == "file":
            (result,) = model.score(self.file)
            return result
        if way == "dataset":
            return model.score_dataset(self.dataset)
        if way == "bytes":
            return model.score_bytes(self.bytes)
        return model.score_volume(self.hu[None], self.spacing)


def probability_of(result: StudyResult) -> float | None:
    """Of its one slice."""
    return result.slices[0].ich_probability


def costs(model: Model, one: OneSlice, rounds: int) -> None:
    """Print what each call costs, and how much of it beside inference."""
    prepared = model.preprocess(one.hu)
    with (
        open_backend(model.bundle, model.backend, model.options) as backend,
        open_executor(model.bundle, backend, model.options) as executor,
    ):

        def inference() -> None:
            executor.submit([executor.prepare(one.slice)])
            executor.collect()

        calls: dict[str, Callable[[], object]] = {
            "inference": inference,
            "model alone": partial(backend.infer, prepared),
            "predict": partial(model.predict, prepared),
        }
        calls |= {way: partial(one.score, model, way) for way in WAYS}
        samples = alternate(calls, rounds, 1, warm_up=UNCOUNTED, clock=time.process_time)
    click.echo(f"{'CPU ms':12} {'median':>8} {'beside':>8} {'least':>8} {'beside':>8}")
    for name, values in samples.items():
        base = samples["model alone" if name == "predict" else "inference"]
        beside = statistics.median(a - b for a, b in zip(values, base, strict=True))
        least = min(values)
        click.echo(f"{name:12} {statistics.median(values):8.2f} {beside:8.2f} {least:8.2f} {least - min(base):8.2f}")


def many_threads(model: Model, slices: list[OneSlice], callers: int, count: int) -> int:
    """Score slices in threads; prints memory and descriptors, returns how many answers differ."""
    tasks = [(slices[i % len(slices)], WAYS[i // len(slices) % len(WAYS)]) for i in range(count)]
    alone = {(id(one), way): probability_of(one.score(model, way)) for one in slices for way in WAYS}

    def differs(task: tuple[OneSlice, str]) -> bool:
        one, way = task
        return probability_of(one.score(model, way)) != alone[id(one), way]

    looks: list[tuple[float, int, int]] = []
    with ThreadPoolExecutor(callers) as pool:
        differing = 0
        for start in range(0, count, max(count // 8, 1)):
            differing += sum(pool.map(differs, tasks[start : start + max(count // 8, 1)]))
            looks.append((resident_bytes() / 2**20, open_files(), threading.active_count()))
    for memory, files, threads in looks:
        click.echo(f"{memory:8.1f} MiB {files:4} descriptors {threads:4} threads")
    return differing


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.argument("studies", type=click.Path(path_type=Path, exists=True))
@click.option("--backend", default="onnxruntime", show_default=True, help="Score with this backend.")
@click.option("--precision", default="fp32", show_default=True, help="Score in this precision.")
@click.option("--rounds", default=100, show_default=True, type=click.IntRange(1), help="Time so many rounds.")
@click.option("--callers", default=8, show_default=True, type=click.IntRange(1), help="Score in so many threads.")
@click.option("--slices", default=2000, show_default=True, type=click.IntRange(8), help="Score so many slices in them.")
def main(bundle: Path, studies: Path, **chosen: Any) -> None:
    """Time calls of an open model of BUNDLE on slices of STUDIES, and score them in many threads."""
    files = sorted({header.file for header in headers_of(discover_slices([studies]))})
    files = files[len(files) // 3 :][:8]
    with open_model(bundle, backend=chosen["backend"], precision=chosen["precision"], threads=1) as model:
        slices = [OneSlice(file) for file in files]
        brightest = max(slices, key=lambda one: float(np.mean(one.hu)))
        costs(model, brightest, chosen["rounds"])
        differing = many_threads(model, slices, chosen["callers"], chosen["slices"])
    click.echo(f"{differing} of {chosen['slices']} answers differ from those of one thread")


if __name__ == "__main__":
    start(main)

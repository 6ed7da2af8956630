"""Preparing one 512 x 512 slice on one core: the library of the CPU path against OpenCV and NumPy.

    python -m benchmarks.standalone.preprocessing [--file SLICE.dcm]

Inside the timer: stored pixels to model bytes (table, mask, resize), with what Python does around it. Both sides are
timed in one process, turn by turn, in CPU time of the thread, since nothing in them waits; a sample is the median of
some calls. `any processor` is the library without AVX2. All must give the same bytes before anything is timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.standalone.program import compare, keep, record_option, start
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.errors import MissingDependency, VerdictError
from dtvit_edge.phantom import render_study, write_study
from dtvit_edge.preprocess import native
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec, Window, digest_file

WHAT = "preparing one 512x512 slice, the library against OpenCV, one core"
SPECS = {
    "one window": PreprocessSpec(),
    "three windows": PreprocessSpec(windows=(Window(40, 80), Window(80, 200), Window(600, 2800))),
}
LIBRARY, ANYWHERE, OPENCV = "library", "any processor", "OpenCV"
RUNS = 10


def sides(
    stored: NDArray[np.uint16], encoding: PixelEncoding, spec: PreprocessSpec
) -> dict[str, Callable[[], NDArray[np.uint8]]]:
    """What prepares a slice, by name.

    Raises:
        MissingDependency: the library is not built here.
        VerdictError: they give other bytes.
    """
    rows, columns = stored.shape
    plan = native.native_plan(rows, columns, encoding, spec)
    if plan is None:
        raise MissingDependency(f"nothing to compare: {native.description()}; `make` builds the library")
    library, opencv = CpuPreprocessor(spec), CpuPreprocessor(spec, native=False)
    calls: dict[str, Callable[[], NDArray[np.uint8]]] = {
        LIBRARY: lambda: library(stored, encoding).pixels,
        ANYWHERE: lambda: plan.prepare(stored, anywhere=True)[0],
        OPENCV: lambda: opencv(stored, encoding).pixels,
    }
    expected = calls[OPENCV]()
    for name, call in calls.items():
        if not np.array_equal(call(), expected):
            raise VerdictError(f"{name} gives other bytes than OpenCV; nothing was timed")
    return calls


@click.command()
@click.option("--file", type=FilePath(exists=True), help="Prepare this slice (default: a phantom's).")
@click.option(
    "--rounds", default=60, show_default=True, type=click.IntRange(min=LEAST_ROUNDS), help="Time this many rounds."
)
@record_option()
def main(file: Path | None, rounds: int, out: Path) -> None:
    """Measure the library and OpenCV's path on a slice, and append the record."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        chosen = file or write_study(render_study(1, "deep", indices=(14,)), Path(folder))[0]
        (header,) = read_headers(chosen, chosen.name)
        stored, digest = SliceReader().read(header).stored, digest_file(chosen)
    samples = {
        f"{name}: {way}": values
        for name, spec in SPECS.items()
        for way, values in alternate(
            sides(stored, header.encoding, spec), rounds, RUNS, warm_up=0, clock=time.thread_time
        ).items()
    }
    keep(
        out, WHAT, "ms of CPU time", samples, compare(samples, OPENCV), {"slice": digest},
        slice="given file" if file else "phantom", library=native.description(), rounds=rounds, runs=RUNS,
    )  # fmt: skip


if __name__ == "__main__":
    start(main)

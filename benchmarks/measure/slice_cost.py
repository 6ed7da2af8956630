"""What one uncompressed 512 x 512 slice costs before inference, stage by stage, on one core.

    python -m benchmarks.measure.slice_cost [--file SLICE.dcm] [--rounds 200]

Inside the timer: `header` reads the header (the planning pass), `bytes` fetches the file as it is (what no reader can
do without), `read` fetches its pixels and decodes them, `measure` asks whether they can be what the header says, then
`table`, `mask` and `resample` are the three parts of preprocessing with OpenCV; `preprocess` is the whole as in a run,
by the library where that is built. Files come from the page cache. Stages alternate slice by slice, so that whatever
else the machine does falls on all of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from benchmarks.results import record_option
from dtvit_edge.cli import render
from dtvit_edge.dicom import plausibility
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.phantom import render_study, write_study
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.mask import head_mask
from dtvit_edge.preprocess.opencv import resample
from dtvit_edge.preprocess.resample import resample_plan
from dtvit_edge.preprocess.rescale_table import rescale_table
from dtvit_edge.results import PixelMeasures
from dtvit_edge.spec import PreprocessSpec, digest_file
from evaluation.records import Record, append

WHAT = "reading and preprocessing one uncompressed 512x512 slice, one core"
WARM_UP_ROUNDS = 10


def stages(file: Path, spec: PreprocessSpec) -> dict[str, Callable[[], Any]]:
    """The stages of one slice, each ready to be called again and again."""
    (header,) = read_headers(file, file.name)
    reader, prepare = SliceReader(), CpuPreprocessor(spec)
    slice_ = reader.read(header)
    stored = slice_.stored
    table = rescale_table(header.encoding, spec)[0]
    image = np.take(table, stored)
    plan = resample_plan(header.rows, header.columns, spec)
    return {
        "header": lambda: read_headers(file, file.name),
        "bytes": file.read_bytes,
        "read": lambda: reader.read(header),
        "measure": lambda: _measured(slice_),
        "table": lambda: np.take(table, stored),
        "mask": lambda: head_mask(image, spec),
        "resample": lambda: resample(image, plan),
        "preprocess": lambda: prepare(stored, header.encoding),
    }


def _measured(slice_: Slice) -> PixelMeasures:
    plausibility.check_bits(slice_)
    return plausibility.measure(slice_.stored, slice_.header.encoding)


def measure(file: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds by stage, one sample a round."""
    calls = stages(file, PreprocessSpec())
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            elapsed = (time.perf_counter() - start) * 1e3
            if round_ >= WARM_UP_ROUNDS:
                samples[name].append(elapsed)
    return samples


@click.command()
@click.option("--file", type=click.Path(path_type=Path, exists=True), help="Read this slice (default: a phantom's).")
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(min=20), help="Take this many samples.")
@record_option()
def main(file: Path | None, rounds: int, out: Path) -> None:
    """Measure what one slice costs before inference, and append the record."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        chosen = file or write_study(render_study(1, "deep", indices=(14,)), Path(folder))[0]
        samples, digest = measure(chosen, rounds), digest_file(chosen)
    summary = {f"{name}_ms_median": statistics.median(values) for name, values in samples.items()}
    both = [a + b for a, b in zip(samples["read"], samples["preprocess"], strict=True)]
    summary["read_and_preprocess_ms_median"] = statistics.median(both)
    summary["read_and_preprocess_ms_p90"] = statistics.quantiles(both, n=10)[-1]
    for name, value in summary.items():
        render.echo(f"{name:<32} {value:.3f}")
    options = {
        "slice": "given file" if file else "phantom",
        "rounds": rounds,
        "command": "python -m benchmarks.measure.slice_cost",
    }
    append(out, Record(WHAT, "ms", samples, summary, digests={"slice": digest}, options=options))


if __name__ == "__main__":
    main()

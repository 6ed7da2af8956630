"""Reading and decoding one slice: this project's reader against pydicom.

    python -m benchmarks.standalone.reading [--file SLICE.dcm]

Inside the timer, from the page cache: `parse and read` finds the header's fields as plain values, and the stored
pixels; `read` the pixels alone, as a run does with a slice that it has planned; `plan and read` is both of a run's
passes, with all that the first makes of a header; pydicom's way is `dcmread(file).pixel_array`. Two files unless
one is given: a phantom's slice as `dtvit-edge phantom` writes it, and the same compressed by RLE, where both use
pylibjpeg-rle. All must give the same pixels before anything is timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.standalone.program import compare, keep, record_option, start
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.dicom.fast_header import read_fast_header
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.located_pixels import read_pixels
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.errors import VerdictError
from dtvit_edge.phantom import render_study, write_study
from dtvit_edge.spec import digest_file

WHAT = "reading one slice, header and pixels, against pydicom"
PYDICOM = "pydicom"
RUNS = 20


def plan_and_read(file: Path) -> NDArray[np.uint16]:
    """Header and pixels as a run reads them, one pass after the other."""
    (header,) = read_headers(file, file.name)
    return SliceReader().read(header).stored


def parse_and_read(file: Path) -> NDArray[np.uint16]:
    """Fields and pixels, and no more."""
    header = read_fast_header(file)
    if header is None or header.pixel_location is None:
        raise VerdictError(f"{file.name} is not of the plain case")
    pixels = read_pixels(file, header.pixel_location, header.get("Rows"), header.get("Columns"))
    if pixels is None:
        raise VerdictError(f"{file.name} changed")
    return pixels


def pydicoms(file: Path) -> NDArray[np.integer]:
    """pydicom's own way, with pylibjpeg where there is something to decode."""
    dataset = pydicom.dcmread(file)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.pixel_array_options(decoding_plugin="pylibjpeg")
    pixels: NDArray[np.integer] = dataset.pixel_array
    return pixels


def measure(files: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Milliseconds by `KIND: READER`.

    Raises:
        VerdictError: the two readers give other pixels.
    """
    calls: dict[str, Callable[[], object]] = {}
    for kind, file in files.items():
        if not np.array_equal(plan_and_read(file), pydicoms(file).view(np.uint16)):
            raise VerdictError(f"{kind}: the two readers give other pixels; nothing was timed")
        (header,) = read_headers(file, file.name)
        calls |= {
            f"{kind}: read": partial(SliceReader().read, header),
            f"{kind}: parse and read": partial(parse_and_read, file),
            f"{kind}: plan and read": partial(plan_and_read, file),
            f"{kind}: {PYDICOM}": partial(pydicoms, file),
        }
    return alternate(calls, rounds, RUNS)


def _phantoms(folder: Path) -> dict[str, Path]:
    plain = write_study(render_study(1, "deep", indices=(14,)), folder)[0]
    dataset = pydicom.dcmread(plain)
    dataset.compress(RLELossless)
    dataset.save_as(folder / "rle.dcm")
    return {"uncompressed": plain, "RLE": folder / "rle.dcm"}


@click.command()
@click.option("--file", type=FilePath(exists=True), help="Read this slice (default: a phantom's).")
@click.option(
    "--rounds", default=10, show_default=True, type=click.IntRange(min=LEAST_ROUNDS), help="Time this many rounds."
)
@record_option()
def main(file: Path | None, rounds: int, out: Path) -> None:
    """Measure both readers on a slice, and append the record."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"given file": file} if file else _phantoms(Path(folder))
        samples = measure(files, rounds)
        digests = {kind: digest_file(path) for kind, path in files.items()}
    keep(out, WHAT, "ms", samples, compare(samples, PYDICOM), digests, rounds=rounds, runs=RUNS)


if __name__ == "__main__":
    start(main)

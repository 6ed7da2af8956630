"""The fast reader against pydicom, over files that are wrong in every way.

    python -m benchmarks.standalone.fuzz_readers [--seed 1] [--inputs 20000] [--out RECORDS.jsonl]

Whatever the fast reader accepts, both have to give the same header or the same rejection, and the same pixels. Inputs
are numbered and made from the seed, so that a run goes on with `--first`, and one input is repeated with `--first N
--inputs 1`. A difference is printed with its number and ends the run with status 1.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from benchmarks.results import CPU_RECORDS
from benchmarks.standalone.mutated_files import mutant
from dtvit_edge.cli import render
from dtvit_edge.dicom.fast_header import parse, read_pixels
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.pixels import decode_frame
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import SliceRejected, VerdictError
from evaluation.records import Record, append

WHAT = "the fast reader against pydicom over mutated files"
INPUTS = 20_000
SEED = 1
EVERY = 1000


@dataclass
class Counts:
    """Of inputs: those that the fast reader took, and the slices among them that were more than a rejection."""

    inputs: int = 0
    accepted: int = 0
    slices: int = 0
    pixels: int = 0


def differences(seed: int, numbers: range, folder: Path, counts: Counts) -> Iterator[str]:
    """What the two readers say differently, a sentence each; `counts` is kept up to date.

    Args:
        folder: where to write the inputs, one at a time.
    """
    file = folder / "mutant"
    for number in numbers:
        data = mutant(seed, number)
        counts.inputs += 1
        if parse(data, len(data)) is None:
            continue  # pydicom reads it in either case
        counts.accepted += 1
        file.write_bytes(data)
        fast, slow = header_or_rejection(file, fast=True), header_or_rejection(file, fast=False)
        if fast != slow:
            yield f"input {number} of seed {seed}: {_difference(fast, slow)}"
        elif isinstance(fast, SliceHeader):
            counts.slices += 1
            difference = _pixel_difference(fast, counts)
            if difference:
                yield f"input {number} of seed {seed}: {difference}"


def header_or_rejection(file: Path, *, fast: bool) -> SliceHeader | tuple[Any, ...]:
    """The header of a file's first frame, or everything that its rejection says."""
    try:
        return read_headers(file, file.name, fast=fast)[0]
    except FileRejected as error:
        return error.reason.code, error.identity, error.frames


def _difference(fast: SliceHeader | tuple[Any, ...], slow: SliceHeader | tuple[Any, ...]) -> str:
    if isinstance(fast, tuple) or isinstance(slow, tuple):
        return f"{fast} by the fast reader, {slow} by pydicom"
    names = [f.name for f in fields(fast) if f.compare and getattr(fast, f.name) != getattr(slow, f.name)]
    return "; ".join(f"{n}: {getattr(fast, n)} by the fast reader, {getattr(slow, n)} by pydicom" for n in names)


def _pixel_difference(header: SliceHeader, counts: Counts) -> str:
    if header.pixel_location is None:
        return ""  # pydicom decodes them in either case
    fast = read_pixels(header.file, header.pixel_location, header.rows, header.columns)
    if fast is None:
        return ""
    counts.pixels += 1
    try:
        slow = decode_frame(open_dataset(header.file), header)
    except SliceRejected as error:
        return f"pixels by the fast reader, {error.reason.code} by pydicom"
    return "" if fast.tobytes() == slow.tobytes() else "other pixels"


@click.command()
@click.option("--seed", default=SEED, show_default=True, help="Make the inputs from this seed.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Begin with this input.")
@click.option("--inputs", default=INPUTS, show_default=True, type=click.IntRange(1), help="Try this many inputs.")
@click.option(
    "--out",
    default=CPU_RECORDS,
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append the record to this file.",
)
def main(seed: int, first: int, inputs: int, out: Path) -> None:
    """Try both readers on mutated files, and append the record."""
    counts, started, found = Counts(), time.process_time(), 0
    with tempfile.TemporaryDirectory() as folder:
        for begin in range(first, first + inputs, EVERY):
            numbers = range(begin, min(begin + EVERY, first + inputs))
            for difference in differences(seed, numbers, Path(folder), counts):
                found += 1
                render.echo(difference)
            render.echo(f"{numbers.stop}: go on with --first {numbers.stop}", err=True)
    seconds = time.process_time() - started
    render.echo(
        f"{counts.inputs} inputs, {counts.accepted} taken by the fast reader, {counts.slices} slices, {counts.pixels} "
        f"with pixels; {found} differences; {seconds:.0f} s of processor time"
    )
    summary = {
        "inputs": float(counts.inputs), "accepted": float(counts.accepted), "slices": float(counts.slices),
        "pixels": float(counts.pixels), "differences": float(found),
    }  # fmt: skip
    command = f"python -m benchmarks.standalone.fuzz_readers --seed {seed}"
    options = {"seed": seed, "first": first, "command": command}
    append(out, Record(WHAT, "s", {"processor time of all inputs": [seconds]}, summary, digests={}, options=options))
    if found:
        raise VerdictError(f"the readers differ in {found} of {counts.inputs} inputs")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.standalone.fuzz_readers")

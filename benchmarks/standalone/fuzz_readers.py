"""The header readers over files that are wrong in every way, and against each other.

    python -m benchmarks.standalone.fuzz_readers [--seed 1] [--inputs 20000] [--work FILE] [--out RECORDS.jsonl]

pydicom's way reads every input. Whatever the fast reader accepts, both have to give the same header or the same
rejection, and whatever either reads at its place in the file has to be the pixels that pydicom decodes. Inputs are
numbered and made from the seed: a run goes on with `--first` or, with the same --work, by itself, and one input is
repeated with `--first N --inputs 1`. A difference, another error than a rejection, or an input that takes more than 2 s
of processor time is printed with its number and ends the run with status 1. What decodes in processes of its own has
`fuzz_decoding`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from benchmarks.standalone.fuzzing import Tally, fuzzing_options, in_chunks
from benchmarks.standalone.mutated_files import mutant
from benchmarks.standalone.program import keep, start
from dtvit_edge.cli import render
from dtvit_edge.dicom.fast_header import parse
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.located_pixels import read_pixels
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.pixels import decode_frame
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.environment import peak_memory
from dtvit_edge.errors import SliceRejected, VerdictError

WHAT = "the fast reader against pydicom over mutated files"
INPUTS = 20_000
SEED = 1
EVERY = 1000
LONGEST_S = 2.0  # of processor time, for everything that is done with an input


def fuzzed(seed: int, numbers: range, folder: Path) -> Tally:
    """What came of so many inputs.

    Args:
        folder: where to write the inputs, one at a time.
    """
    tally = Tally()
    file = folder / "mutant"
    for number in numbers:
        data = mutant(seed, number)
        tally.counts["inputs"] += 1
        with file.open("wb") as stream:
            stream.write(data)
        begun = time.process_time()
        try:
            finding = _difference(data, file, tally)
        except Exception as error:
            finding = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - begun
        tally.measure("seconds", seconds)
        if seconds > LONGEST_S:
            finding = finding or f"{seconds:.1f} s"
        if finding:
            tally.findings.append(f"input {number} of seed {seed}: {finding}")
    tally.measure("peak MiB", (peak_memory() or 0) / 2**20)
    return tally


def _difference(data: bytes, file: Path, tally: Tally) -> str:
    slow = header_or_rejection(file, fast=False)
    fast = slow
    if parse(data, len(data)) is not None:
        tally.counts["accepted"] += 1
        fast = header_or_rejection(file, fast=True)
        if fast != slow:
            return _other_header(fast, slow)
        tally.counts["slices"] += isinstance(fast, SliceHeader)
    readers = {id(header): header for header in (fast, slow) if isinstance(header, SliceHeader)}
    return next((found for header in readers.values() if (found := _other_pixels(header, tally))), "")


def header_or_rejection(file: Path, *, fast: bool) -> SliceHeader | tuple[Any, ...]:
    """The header of a file's first frame, or everything that its rejection says."""
    try:
        return read_headers(file, file.name, fast=fast)[0]
    except FileRejected as error:
        return error.reason.code, error.identity, error.frames


def _other_header(fast: SliceHeader | tuple[Any, ...], slow: SliceHeader | tuple[Any, ...]) -> str:
    if isinstance(fast, tuple) or isinstance(slow, tuple):
        return f"{fast} by the fast reader, {slow} by pydicom"
    names = [f.name for f in fields(fast) if f.compare and getattr(fast, f.name) != getattr(slow, f.name)]
    return "; ".join(f"{n}: {getattr(fast, n)} by the fast reader, {getattr(slow, n)} by pydicom" for n in names)


def _other_pixels(header: SliceHeader, tally: Tally) -> str:
    if header.pixel_location is None:
        return ""  # pydicom decodes them in either case
    fast = read_pixels(header.file, header.pixel_location, header.rows, header.columns)
    if fast is None:
        return ""
    tally.counts["pixels"] += 1
    try:
        slow = decode_frame(open_dataset(header.file), header)
    except SliceRejected as error:
        return f"pixels by the fast reader, {error.reason.code} by pydicom"
    return "" if fast.tobytes() == slow.tobytes() else "other pixels"


@click.command()
@fuzzing_options(SEED, INPUTS)
def main(seed: int, first: int, inputs: int, work: Path | None, out: Path) -> None:
    """Try the readers on mutated files, and append the record."""
    with tempfile.TemporaryDirectory() as folder:

        def run(numbers: range) -> Tally:
            begun = time.process_time()
            tally = fuzzed(seed, numbers, Path(folder))
            tally.counts["milliseconds"] = round(1000 * (time.process_time() - begun))
            return tally

        total = in_chunks(range(first, first + inputs), EVERY, work, {"what": WHAT, "seed": seed}, run)
    counts, found = total.counts, len(total.findings)
    render.echo(
        f"{counts['inputs']} inputs, {counts['accepted']} taken by the fast reader, {counts['slices']} slices, "
        f"{counts['pixels']} with pixels; {found} findings; the longest took {total.largest['seconds']:.2f} s of "
        f"processor time, all {counts['milliseconds'] / 1000:.0f} s; {total.largest['peak MiB']:.0f} MiB at most"
    )
    seconds = counts.pop("milliseconds") / 1000
    summary = {**map_floats(counts), **total.largest, "differences": float(found)}
    keep(out, WHAT, "s", {"processor time of all inputs": [seconds]}, summary, seed=seed, first=first)
    if found:
        raise VerdictError(f"{found} findings among {counts['inputs']} inputs")


def map_floats(counts: dict[str, int]) -> dict[str, float]:
    """Counts as a record takes them."""
    return {name: float(count) for name, count in sorted(counts.items())}


if __name__ == "__main__":
    start(main)

"""Reading and decoding of damaged images as `score` does it, in processes with bounds.

    python -m benchmarks.standalone.fuzz_decoding [--seed 1] [--inputs 50000] [--also FOLDER]... [--work FILE]

Each input is a phantom's image in one of many encodings with some bytes changed (`damaged_images`), of --also FOLDER
the files there as well. It is planned and its first frames are read twice, by the reader that takes the common case
itself and by the one that leaves everything to pydicom; where both accept it, headers and pixels have to be the same.
Anything but a slice or a rejection is a finding, and so is a request that took more processor time than its bound, or
a decoder's process that took more memory than its own. Inputs are made from the seed and their number.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections import Counter
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from benchmarks.standalone.damaged_images import damaged, phantoms
from benchmarks.standalone.fuzz_readers import map_floats
from benchmarks.standalone.fuzzing import Tally, fuzzing_options, in_chunks
from benchmarks.standalone.processes import children_of
from benchmarks.standalone.program import keep, start
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.dicom.bounded_process import CPU_SECONDS, SPARE_BYTES
from dtvit_edge.dicom.decoder_pool import ParallelReader, read_headers_apart
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.environment import peak_memory
from dtvit_edge.errors import ConfigError, SliceRejected, VerdictError
from dtvit_edge.spec import digest_json

WHAT = "reading and decoding damaged images in bounded processes"
INPUTS = 50_000
SEED = 1
EVERY = 500
FRAMES_READ = 3
# A process is ended at its bound by a timer that looks every few milliseconds; this process's part comes on top.
_SLACK_S = 0.3
# Of a decoder's process: what it has after its imports, on top of which it may take `SPARE_BYTES`.
_IMPORTS_BYTES = 1 << 29

_DECODERS_PEAK = "decoder's peak MiB"

Outcome = tuple[list[SliceHeader], list[bytes | str]] | str


class Fuzzer:
    """Damages images and reads them; one for all inputs, so that processes are begun as rarely as in a run."""

    def __init__(self, seed: int, images: list[bytes], folder: Path) -> None:
        self._seed, self._images = seed, images
        self._file = folder / "damaged"

    def __call__(self, numbers: range) -> Tally:
        """What came of so many inputs."""
        tally = Tally()
        begun = _cpu_seconds()
        with ParallelReader() as fast, ParallelReader(fast=False) as slow:
            for number in numbers:
                with self._file.open("wb") as stream:
                    stream.write(damaged(self._images, self._seed, number))
                try:
                    finding = self._compared(fast, slow, tally)
                except Exception as error:
                    finding = f"{type(error).__name__}: {error}"
                tally.counts["inputs"] += 1
                if finding:
                    tally.findings.append(f"input {number} of seed {self._seed}: {finding}")
            tally.counts["milliseconds"] = round(1000 * (_cpu_seconds() - begun))
            _measure_memory(tally)
        if (most := tally.largest[_DECODERS_PEAK]) > (SPARE_BYTES + _IMPORTS_BYTES) >> 20:
            tally.findings.append(f"inputs {numbers}: a decoder took {most:.0f} MiB")
        return tally

    def _compared(self, fast: ParallelReader, slow: ParallelReader, tally: Tally) -> str:
        first, second = (self._outcome(reader, is_fast, tally) for reader, is_fast in ((fast, True), (slow, False)))
        if isinstance(first, str) or isinstance(second, str):
            tally.counts["rejected files"] += isinstance(first, str)
            return "" if _reason(first) == _reason(second) else f"{_reason(first)}, by pydicom {_reason(second)}"
        if first[0] != second[0]:
            return _other_fields(first[0], second[0])
        for one, other in zip(first[1], second[1], strict=True):
            both = isinstance(one, bytes) and isinstance(other, bytes)
            tally.counts["frames decoded by both"] += both
            tally.counts["frames that one reader rejects"] += isinstance(one, bytes) != isinstance(other, bytes)
            if both and one != other:
                return "other pixels"
        return ""

    def _outcome(self, reader: ParallelReader, fast: bool, tally: Tally) -> Outcome:
        try:
            headers = self._timed(tally, "planning", lambda: read_headers_apart(self._file, "x", fast=fast), 1)
        except SliceRejected as error:
            tally.counts["stopped by their CPU time"] += "CPU time" in error.detail
            return f"{error.reason.code} {error.detail}"
        answers: list[bytes | str] = []
        for header in headers[:FRAMES_READ]:
            try:
                # Its bound holds for opening the file, and again for the frame.
                slice_ = self._timed(tally, "decoding", lambda header=header: reader.read(header), 2)
                answers.append(slice_.stored.tobytes())
            except SliceRejected as error:
                tally.counts["stopped by their CPU time"] += "CPU time" in error.detail
                tally.counts["decoders that crashed"] += "process ended" in error.detail
                answers.append(f"{error.reason.code} {error.detail}")
        return list(headers), answers

    def _timed(self, tally: Tally, stage: str, call: Any, bounds: int) -> Any:
        begun, wall = _cpu_seconds(), time.monotonic()
        try:
            return call()
        finally:
            # Asking for the time of all processes takes longer than most inputs: only what took long is looked at.
            if time.monotonic() - wall > CPU_SECONDS / 10:
                seconds = _cpu_seconds() - begun
                tally.measure(f"{stage} s", seconds)
                if seconds > bounds * CPU_SECONDS + _SLACK_S:
                    tally.findings.append(f"{stage} took {seconds:.1f} s of processor time")


def _cpu_seconds() -> float:
    """Of this process and those that it began, ended or not."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for process, _ in _children():
        try:
            fields_ = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields_[11]) + int(fields_[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _children() -> list[tuple[int, str]]:
    return children_of(os.getpid())


def _measure_memory(tally: Tally) -> None:
    peaks = [resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
    for process, _ in _children():
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            peaks += [int(line.split()[1])] if line.startswith("VmHWM") else []
    tally.measure(_DECODERS_PEAK, max(peaks) / 1024)
    tally.measure("peak MiB", (peak_memory() or 0) / 2**20)


def _reason(outcome: Outcome) -> str:
    return outcome.split()[0] if isinstance(outcome, str) else f"{len(outcome[0])} slices"


def _other_fields(fast: list[SliceHeader], slow: list[SliceHeader]) -> str:
    for one, other in zip(fast, slow, strict=False):
        for field in fields(one):
            if field.compare and getattr(one, field.name) != getattr(other, field.name):
                return f"{field.name}: {getattr(one, field.name)}, by pydicom {getattr(other, field.name)}"
    return f"{len(fast)} headers, by pydicom {len(slow)}"


@click.command()
@fuzzing_options(SEED, INPUTS)
@click.option("--also", multiple=True, type=FilePath(exists=True, file_okay=False),
              help="Damage the DICOM files below this folder, too.")  # fmt: skip
def main(seed: int, first: int, inputs: int, also: tuple[Path, ...], work: Path | None, out: Path) -> None:
    """Read damaged images, and append the record."""
    with tempfile.TemporaryDirectory() as folder:
        images = phantoms(Path(folder))
        for given in also:
            files = sorted(given.rglob("*.dcm"))
            if not files:
                raise ConfigError("no file *.dcm below a folder given with --also; there is nothing to damage")
            images += [file.read_bytes() for file in files]
        digest = digest_json([sha256(image).hexdigest() for image in images])
        about = {"what": WHAT, "seed": seed, "images": digest}
        total = in_chunks(range(first, first + inputs), EVERY, work, about, Fuzzer(seed, images, Path(folder)))
    counts, found = total.counts, len(total.findings)
    for name, value in sorted((counts | Counter(total.largest)).items()):
        render.echo(f"{value:10.1f}  {name}")
    render.echo(f"{found:8}    findings")
    seconds = counts.pop("milliseconds") / 1000
    summary = {**map_floats(counts), **total.largest, "findings": float(found)}
    samples = {"processor time of all inputs": [seconds]}
    keep(out, WHAT, "s", samples, summary, {"images": digest}, seed=seed, first=first, images=len(images))
    if found:
        raise VerdictError(f"{found} findings among {counts['inputs']} inputs")


if __name__ == "__main__":
    start(main)

"""How much memory a driver takes: the process that plans, keeps the journal and writes the tables of many files.

    python -m benchmarks.standalone.driver_memory [--files N ...] [--written]

Studies of 32 slices of 64 x 64 pixels. With `--written` they are files, walked and read; else walk and headers are
generated, each as `discover` takes it of a file, so that a million need no disk. Workers answer at once with what a
model would say, through the dispatcher that Ray's answers go through. Each number of files runs in a process of its
own, whose peak memory is printed after the walk, after the plan, and at the end of the run; with the CPU time of the
driver for a slice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pydicom

from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.cluster.dispatch import Answered, Dispatcher, Event
from dtvit_edge.dicom.header_pool import FileHeaders
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.records import pack
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.dicom.walk import StudyFile, Walk, walk
from dtvit_edge.environment import peak_memory
from dtvit_edge.phantom import render_study, write_study
from dtvit_edge.reasons import Status
from dtvit_edge.results import Identity, PixelMeasures, slice_row
from dtvit_edge.scoring import run as scoring
from dtvit_edge.scoring.options import Options

SLICES = 32
SIDE = 64
WHAT = "the driver: memory and CPU time over many files"
STAGES = ("walk", "plan", "run")


@dataclass
class InstantModel:
    """A `RunModel` whose workers answer at once."""

    options: Options
    why: str = "asked for"
    batch: int = 16

    def identity(self, bundle: Bundle) -> dict[str, Any]:
        """See `RunModel.identity`."""
        return {"model": "", "spec": "", "options": {}, "backend": {}, "packages": {}}

    def pipeline(self, bundle: Bundle, *, timings: Any, rejected: Callable[..., None]) -> Dispatcher:
        """See `RunModel.pipeline`."""
        return Dispatcher(_InstantPool(), 4 * self.batch, rejected)

    def report_fields(self) -> dict[str, Any]:
        """See `RunModel.report_fields`."""
        return {}


class _InstantPool:
    ready: Sequence[int] = (0, 1, 2, 3)

    def __init__(self) -> None:
        self._given: deque[tuple[int, Sequence[SliceImage]]] = deque()

    def submit(self, worker: int, ticket: int, images: Sequence[SliceImage]) -> None:
        self._given.append((ticket, images))

    def replace(self, worker: int, why: str) -> None:
        raise AssertionError(why)

    def check(self, images: Sequence[SliceImage]) -> None:
        pass

    def wait(self) -> list[Event]:
        ticket, images = self._given.popleft()
        return [Answered(ticket, [tuple(_row(header, image.place) for header in image.headers) for image in images])]


def _row(header: SliceHeader, place: int) -> Any:
    number = header.instance_number or 0
    measures = PixelMeasures(
        0.51 + number / 1000, 0.01 + number / 10000, False, header.identity.sop_uid.zfill(32)[-32:]
    )
    return slice_row(
        header.identity, header.frame, header.path, Status.SCORED, ich_probability=0.1 + number / 997, ich=False,
        location_probabilities=(0.2 + number / 991, 0.3, 0.5 - number / 991), place=place, measures=measures,
        head_pixels=1000 + number,
    )  # fmt: skip


def _header(folder: Path) -> SliceHeader:
    from dtvit_edge.dicom.decoder_pool import read_headers_apart

    (original,) = write_study(render_study(1, "deep", indices=(14,)), folder / "original")
    (header,) = read_headers_apart(original, "original")
    return header


def _entry(i: int) -> StudyFile:
    path = f"{i // SLICES:06d}/IM{i % SLICES:04d}"
    return StudyFile(Path("/studies", path), path, FileState(9000 + i % 7, 10**18 + i * 10**6, 10**18 + i * 10**6 + 77))


def _generated(files: Sequence[StudyFile], original: SliceHeader) -> Iterator[FileHeaders]:
    for i, entry in enumerate(files):
        study = f"1.2.826.0.1.3680043.8.498.{i // SLICES:012d}"
        yield [
            pack(
                replace(
                    original, file=entry.file, path=entry.path, state=entry.state, rows=SIDE, columns=SIDE,
                    identity=Identity(study, f"{study}.1", f"{study}.1.{i % SLICES}"),
                    position_mm=(-120.0, -120.0, 5.0 * (i % SLICES)), instance_number=i % SLICES + 1,
                )
            )
        ]  # fmt: skip


def _write(folder: Path, count: int) -> None:
    (original,) = write_study(render_study(1, "deep", indices=(14,)), folder / "original")
    slice_ = pydicom.dcmread(original)
    slice_.Rows = slice_.Columns = SIDE
    slice_.PixelData = bytes(2 * SIDE * SIDE)
    for i in range(count):
        path = folder / "files" / f"{i // SLICES:06d}" / f"IM{i % SLICES:04d}"
        if i % SLICES == 0:
            path.parent.mkdir(parents=True)
            slice_.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.{i // SLICES:012d}"
            slice_.SeriesInstanceUID = f"{slice_.StudyInstanceUID}.1"
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"{slice_.SeriesInstanceUID}.{i % SLICES}"
        slice_.ImagePositionPatient = [-120, -120, 5.0 * (i % SLICES)]
        slice_.InstanceNumber = i % SLICES + 1
        slice_.save_as(path)


def _peak_mib() -> float:
    return (peak_memory() or 0) / 2**20


def _child(bundle: Path, folder: Path, count: int, written: bool) -> None:
    peaks: dict[str, float] = {"begin": _peak_mib()}
    original = None if written else _header(folder)

    def walked(folders: Sequence[Path], *, exclude: Path | None = None) -> Walk:
        found = walk(folders, exclude=exclude) if written else Walk(tuple(_entry(i) for i in range(count)))
        peaks["walk"] = _peak_mib()
        return found

    output = scoring.open_output

    def opened(*arguments: Any, **more: Any) -> Any:
        peaks["plan"] = _peak_mib()
        return output(*arguments, **more)

    def generated(files: Sequence[StudyFile], *, fast: bool = True) -> Iterator[FileHeaders]:
        assert original is not None
        return _generated(files, original)

    patches: list[Any] = [patch.object(scoring, "walk", walked), patch.object(scoring, "open_output", opened)]
    if not written:
        patches.append(patch("dtvit_edge.dicom.discover.read_files", generated))
    start = time.process_time()
    for one in patches:
        one.start()
    report = scoring.run(
        Bundle.open(bundle), [folder / "files" if written else folder], folder / "out", Options(),
        model=InstantModel(Options(backend="onnxruntime", precision="fp32", batch=16)),
    )  # fmt: skip
    assert report.processed == count, report
    peaks["run"] = _peak_mib()
    tables = sum((folder / "out" / name).stat().st_size for name in ("slices.csv", "studies.csv", "journal.jsonl"))
    render.echo(json.dumps({"peaks": peaks, "cpu_s": time.process_time() - start, "bytes": tables}))


@click.command()
@click.argument("bundle", type=FilePath(exists=True))
@click.option("--files", multiple=True, default=(20_000, 100_000), show_default=True, type=click.IntRange(SLICES),
              help="Run with so many files; may be repeated.")  # fmt: skip
@click.option("--written", is_flag=True, help="Write the files, and walk and read them.")
@record_option()
@click.option("--child", hidden=True, type=FilePath())
def main(bundle: Path, files: tuple[int, ...], written: bool, out: Path, child: Path | None) -> None:
    """Print a driver's peak memory after walk, plan and run, for each number of files, and append the record."""
    if child is not None:
        _child(bundle, child, files[0], written)
        return
    samples: dict[str, list[float]] = {}
    summary: dict[str, float] = {}
    for count in files:
        count -= count % SLICES
        with tempfile.TemporaryDirectory() as folder:
            if written:
                _write(Path(folder), count)
            command = [sys.executable, "-m", "benchmarks.standalone.driver_memory", str(bundle), "--files", str(count),
                       "--child", folder, *(["--written"] if written else [])]  # fmt: skip
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            said = json.loads(done.stdout.strip().splitlines()[-1])
        begin = said["peaks"]["begin"]
        grown = {stage: (said["peaks"][stage] - begin) * 2**20 / count for stage in STAGES}
        stages = ", ".join(f"{s} {said['peaks'][s]:.0f} MiB ({grown[s]:.0f} bytes a file)" for s in STAGES)
        render.echo(
            f"{count} files: peak after {stages}; {said['cpu_s'] / count * 1e6:.0f} us of CPU time a slice, "
            f"{said['bytes'] / count:.0f} bytes a slice in the tables and the journal"
        )
        samples[f"{count} files"] = [said["peaks"][stage] for stage in STAGES]
        summary = {"files": count, "peak MiB": said["peaks"]["run"], "us a slice": said["cpu_s"] / count * 1e6}
    keep(out, WHAT, "MiB", samples, summary, written=written)


if __name__ == "__main__":
    start(main)

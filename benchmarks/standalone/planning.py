"""Planning a folder of many files, and reading their pixels: this checkout against another one.

    python -m benchmarks.standalone.planning [--against CHECKOUT] [--files N]

Each checkout runs in a process of its own, and they take turns, so that what else the machine does falls on both;
times are CPU time of the process and of those that read for it, since the files lie in memory. The files are copies of
one phantom's slice under UIDs of their own, in folders of a thousand; one of a hundred is no DICOM. `plan` is the walk,
all headers and the plan; `wall` the same by the clock, which means something on a quiet machine alone; `read` the
pixels of a thousand slices afterwards. The other stages read once what is planned of a file of several frames, plain or
RLE, or of plain or RLE slices whose header is out of the ordinary. Printed are CPU seconds, peak memory, what a plan
holds a file (by `tracemalloc`, in a process of its own), and the ratio to the other checkout. Nothing is recorded: it
is a means to see whether a change costs time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import pydicom
from pydicom.uid import RLELossless

from benchmarks.measure.interleaving import LEAST_ROUNDS
from benchmarks.standalone.program import start
from dtvit_edge.cli import render
from dtvit_edge.phantom import render_study, write_study
from evaluation.records import ratio_summary

FILES_A_FOLDER = 1000
READ = 1000
SIDE = 128  # pixels
FRAMES = 40
STAGES = ("plan", "wall", "read", "plain frames", "RLE frames", "plain slices", "RLE slices")
FRAME_STAGES = STAGES[3:]
_UID_DIGITS = 9

# Runs in a checkout that may be older than this file: one answer a line.
_CHILD = f"""
import gc, json, os, pathlib, resource, sys, time, tracemalloc
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.walk import walk
def cpu_seconds():
    total, ticks = time.process_time(), os.sysconf("SC_CLK_TCK")
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total
for line in sys.stdin:
    answer = {{}}
    if len(sys.argv) > 1:
        files = pathlib.Path(line.strip(), "files")
        discover(walk([files]), any_series=True)
        gc.collect()
        tracemalloc.start()
        plan = discover(walk([files]), any_series=True)
        gc.collect()
        print(json.dumps(dict(held=tracemalloc.get_traced_memory()[0])), flush=True)
        break
    for folder in sorted(pathlib.Path(line.strip()).glob("* *")):
        plan = discover(walk([folder]), any_series=True)
        headers = [header for series in plan.series for header in series.headers]
        assert len(headers) == {FRAMES}, len(headers)
        with ParallelReader() as reader:
            reader.read(headers[0])  # what is begun once
            start = cpu_seconds()
            for header in headers[1:]:
                reader.read(header)
            answer[folder.name] = cpu_seconds() - start
    def used():
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    start, clock = used(), time.perf_counter()
    plan = discover(walk([pathlib.Path(line.strip(), "files")]), any_series=True)
    planned, wall = used(), time.perf_counter() - clock
    headers = [header for series in plan.series for header in series.headers]
    reader = SliceReader()
    before = time.process_time()
    for header in headers[:{READ}]:
        reader.read(header)
    print(json.dumps(answer | dict(
        plan=planned - start, wall=wall, read=time.process_time() - before,
        slices=len(headers), rows=len(plan.rejected),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    )), flush=True)
"""


def write_files(folder: Path, files: int) -> None:
    """A small slice of a phantom again and again, under UIDs of its own, and one other file in a hundred."""
    (original,) = write_study(render_study(1, "deep", indices=(14,)), folder / "original")
    slice_ = pydicom.dcmread(original)
    slice_.Rows = slice_.Columns = SIDE
    slice_.PixelData = bytes(2 * SIDE * SIDE)
    slice_.save_as(original)
    data, uid = original.read_bytes(), str(slice_.SOPInstanceUID).encode()
    shutil.rmtree(original.parent)
    for i in range(files):
        target = folder / f"{i // FILES_A_FOLDER:03d}" / f"IM{i:06d}"
        target.parent.mkdir(exist_ok=True, parents=True)
        own = uid[:-_UID_DIGITS] + b"%0*d" % (_UID_DIGITS, i)
        target.write_bytes(b"no slice" if i % 100 == 99 else data.replace(uid, own))


def write_frames(folder: Path) -> None:
    """Files of several frames and slices out of the ordinary, 512 x 512 pixels; a folder each, named as its stage."""
    (original,) = write_study(render_study(1, "deep", indices=(14,)), folder / "original")
    for stage in FRAME_STAGES:
        target = folder / stage
        target.mkdir()
        for i in range(1 if "frames" in stage else FRAMES):
            slice_ = pydicom.dcmread(original)
            slice_.SpecificCharacterSet = "ISO_IR 13"
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"2.25.1{i:03d}"
            slice_.ImagePositionPatient = [0, 0, i]
            if "frames" in stage:
                slice_.NumberOfFrames = FRAMES
                slice_.PixelData *= FRAMES
            if "RLE" in stage:
                slice_.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
            slice_.save_as(target / f"{i:03d}")
    shutil.rmtree(original.parent)


class Checkout:
    """A process that plans with the code of one checkout."""

    def __init__(self, root: Path, *, memory: bool = False) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *(["memory"] if memory else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            text=True,
        )

    def plan(self, folder: Path) -> dict[str, float]:
        """CPU seconds of `plan` and `read`, and what was found; or what a plan holds."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(f"{folder}\n")
        self._child.stdin.flush()
        answer: dict[str, float] = json.loads(self._child.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._child.communicate()


def _held(root: Path, folder: Path) -> float:
    checkout = Checkout(root, memory=True)
    try:
        return checkout.plan(folder)["held"]
    finally:
        checkout.close()


@click.command()
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Compare with this checkout's code.")
@click.option("--files", default=10_000, show_default=True, type=click.IntRange(min=1), help="Plan so many files.")
@click.option("--rounds", default=LEAST_ROUNDS, show_default=True, type=click.IntRange(min=1), help="Time as often.")
def main(against: Path | None, files: int, rounds: int) -> None:
    """Time planning and reading, in turns with another checkout."""
    roots = {"this checkout": Path(__file__).resolve().parents[2]} | ({"the other": against} if against else {})
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder, "files"), files)
        write_frames(Path(folder))
        checkouts = {name: Checkout(root.resolve()) for name, root in roots.items()}
        answers: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        try:
            for round_ in range(-1, rounds):  # the first warms up
                for name, checkout in list(checkouts.items())[:: 1 if round_ % 2 else -1]:
                    answer = checkout.plan(Path(folder))
                    if round_ >= 0:
                        answers[name].append(answer)
            held = {name: _held(root.resolve(), Path(folder)) for name, root in roots.items()}
        finally:
            for checkout in checkouts.values():
                checkout.close()
    samples = {name: {stage: [a[stage] for a in found] for stage in STAGES} for name, found in answers.items()}
    for name, found in answers.items():
        last, middle = found[-1], {stage: float(np.median(values)) for stage, values in samples[name].items()}
        render.echo(
            f"{name}: plan {middle['plan']:.3f} s of CPU time, {middle['wall']:.3f} s by the clock for {files} files, "
            f"{held[name] / files:.0f} bytes a file; read {middle['read']:.3f} s for "
            f"{min(READ, int(last['slices']))} slices; {last['slices']:.0f} slices, {last['rows']:.0f} other rows, "
            f"peak {last['peak_mib']:.0f} MiB"
        )
        each = (f"{stage} {1e3 * np.median(samples[name][stage]) / (FRAMES - 1):.2f}" for stage in FRAME_STAGES)
        render.echo(f"{name}: milliseconds each: {', '.join(each)}")
    if against:
        for stage in STAGES:
            ratio = ratio_summary(samples["this checkout"][stage], samples["the other"][stage])
            render.echo(
                f"{stage}: {ratio['ratio_median']:.3f} times the other's time (quartiles "
                f"{ratio['ratio_lower_quartile']:.3f} to {ratio['ratio_upper_quartile']:.3f}, {rounds} rounds)"
            )


if __name__ == "__main__":
    start(main)

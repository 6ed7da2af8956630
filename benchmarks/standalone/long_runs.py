"""Scoring many slices: does memory stay flat, and what does it cost beside another checkout?

    python -m benchmarks.standalone.long_runs [--before CHECKOUT] [--slices 20000] [--rounds 2]

Whole processes of `dtvit-edge score`, one a checkout, taking turns over the same folder: one small phantom again and
again, under UIDs of its own in each study. Each checkout runs a bundle that its own code exported from the demo
checkpoint. Memory is the resident memory of the process and of those that it started, looked at four times a second;
time is their CPU time, since other work on the machine falls on the wall clock.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pydicom

from benchmarks.results import record_option
from benchmarks.standalone.leak import resident_bytes
from benchmarks.standalone.processes import children_of
from dtvit_edge.cli import render
from dtvit_edge.errors import VerdictError
from dtvit_edge.phantom import render_study, write_study
from evaluation.records import Record, append

WHAT = "scoring many slices: memory over the run and CPU time, whole processes"
SIDE = 128  # pixels: four times smaller than the phantom's
EVERY_S = 0.25
_HERE = Path(__file__).parents[2]
_DEMO = "export/demo/demo.safetensors"
_UID_DIGITS = 9


@dataclass(frozen=True)
class LongRun:
    """One process of `score`.

    Attributes:
        resident_mib: of it and its children, in the order of the looks.
        rows: lines of `slices.csv` that say "scored".
    """

    cpu_seconds: float
    resident_mib: list[float]
    rows: int


def write_studies(folder: Path, slices: int) -> int:
    """Copies of one phantom study at `SIDE` x `SIDE`, at least `slices` files; returns how many there are."""
    originals = write_study(render_study(1, "deep"), folder / "original")
    templates = []
    for path in originals:
        slice_ = pydicom.dcmread(path)
        step = slice_.Rows // SIDE
        slice_.PixelData = slice_.pixel_array[::step, ::step].tobytes()
        slice_.Rows = slice_.Columns = SIDE
        slice_.PixelSpacing = [step * float(value) for value in slice_.PixelSpacing]
        slice_.save_as(path)
        uids = [
            str(slice_[name].value).encode() for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        ]
        templates.append((path.name, path.read_bytes(), uids))
    shutil.rmtree(folder / "original")
    studies = -(-slices // len(templates))
    for study in range(studies):
        target = folder / f"study-{study:05d}"
        target.mkdir()
        for name, data, uids in templates:
            for uid in uids:
                data = data.replace(uid, uid[:-_UID_DIGITS] + b"%0*d" % (_UID_DIGITS, int(uid[-4:]) * 10**5 + study))
            (target / name).write_bytes(data)
    return studies * len(templates)


def run(checkout: Path, words: list[str], rows_of: Path | None = None) -> LongRun:
    """A command of a checkout, watched to its end.

    Raises:
        VerdictError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(
        [sys.executable, "-m", "dtvit_edge", *words],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    looks: list[float] = []
    while child.poll() is None:
        looks.append(sum(map(_resident_mib, [child.pid, *(pid for pid, _ in children_of(child.pid))])))
        time.sleep(EVERY_S)
    if child.returncode:
        assert child.stderr is not None
        raise VerdictError(f"{words[0]} ended with {child.returncode}: {child.stderr.read()[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return LongRun(cpu, looks, rows_of.read_text(encoding="utf-8").count(",scored,") if rows_of else 0)


def _resident_mib(pid: int) -> float:
    try:
        return resident_bytes(pid) / 2**20
    except (OSError, IndexError):  # it has just ended
        return 0.0


@click.command()
@click.option(
    "--before", type=click.Path(path_type=Path, exists=True), help="Take turns with the code of this checkout."
)
@click.option("--slices", default=20_000, show_default=True, type=click.IntRange(100), help="Score this many slices.")
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(1), help="Run each checkout as often.")
@record_option()
def main(before: Path | None, slices: int, rounds: int, out: Path) -> None:
    """Score many slices with each checkout, and append the record.

    Growth is the median of the last quarter of the looks less that of the second quarter.
    """
    checkouts = {"this checkout": _HERE} | ({"before": before.resolve()} if before else {})
    samples: dict[str, list[float]] = {}
    summary: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        count = write_studies(Path(scratch, "studies"), slices)
        for name, checkout in checkouts.items():
            run(checkout, ["export", str(checkout / _DEMO), "-o", f"{scratch}/{name}.dtvit"])
        for round_ in range(rounds):
            for name, checkout in list(checkouts.items())[:: -1 if round_ % 2 else 1]:
                words = [
                    "score",
                    f"{scratch}/{name}.dtvit",
                    f"{scratch}/studies",
                    "-o",
                    f"{scratch}/out",
                    "--overwrite",
                ]
                words += ["--backend", "onnxruntime", "--threads", "1", "--workers", "1"]
                ended = run(checkout, words, Path(scratch, "out", "slices.csv"))
                shutil.rmtree(f"{scratch}/out")
                if ended.rows < count // 2:
                    raise VerdictError(f"{name}: {ended.rows} of {count} slices were scored")
                samples.setdefault(f"{name}: CPU seconds", []).append(ended.cpu_seconds)
                samples.setdefault(f"{name}: resident MiB, round {round_ + 1}", []).extend(ended.resident_mib)
                quarter = len(ended.resident_mib) // 4
                growth = statistics.median(ended.resident_mib[-quarter:])
                growth -= statistics.median(ended.resident_mib[quarter : 2 * quarter])
                summary[f"{name}: MiB grown, round {round_ + 1}"] = growth
                summary[f"{name}: MiB at most, round {round_ + 1}"] = max(ended.resident_mib)
                summary[f"{name}: slices scored"] = float(ended.rows)
    for name in checkouts:
        summary[f"{name}: CPU seconds (median)"] = statistics.median(samples[f"{name}: CPU seconds"])
    if before:
        this, other = (summary[f"{name}: CPU seconds (median)"] for name in checkouts)
        summary["CPU time of this checkout over the other's"] = this / other
    for name, value in summary.items():
        render.echo(f"{name:<48} {value:.3f}")
    command = f"python -m benchmarks.standalone.long_runs --slices {slices} --rounds {rounds}"
    append(out, Record(WHAT, "s, MiB", samples, summary, {}, {"files": count, "rounds": rounds, "command": command}))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.standalone.long_runs")

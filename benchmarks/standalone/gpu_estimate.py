"""What the CUDA preprocessing should take on GPUs that were not at hand, by phase, and what it compiles to.

    python -m benchmarks.standalone.gpu_estimate

Nothing is measured but nvcc's registers. Work is counted on a 512 x 512 slice of one window, crop 224, in instructions
of a thread an item, read off the source and rounded up; what waits is counted in reads, barriers and atomics. A phase
takes the longest of its instructions (128 a cycle and processor), its table reads and its memory traffic, and what
waits on top. The assumptions are the constants here, and a factor of two either way would be no surprise.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click

from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge.cli import render
from dtvit_edge.errors import MissingDependency
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cuda import BLOCKS_A_PROCESSOR, SPREAD_SLICES_A_PROCESSOR

WHAT = "CUDA preprocessing: estimate by phase, and registers"
ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "110", "120")
PHASES = ("tables and threshold", "mask", "resize", "launches")

# The slice: 262,144 pixels; bytes that pass through memory: pixels, bytes written and read, masks.
GROUPS, WORDS, ROWS, CROP = 64 * 512, 16 * 512, 512, 224
BYTES_IN, BYTES_RESIZE = (2 + 1) * 262_144 + 3 * 34_816, 262_144 + 34_816 + CROP * CROP
# Instructions an item: eight pixels through the table; a word eroded, dilated, counted and copied.
GROUP_WORK, ERODE_WORK, DILATE_WORK, WORD_WORK = 110, 180, 110, 40
# A byte of the horizontal pass (five taps), eight staged, eight of the vertical pass; rows with the tiles' overlap.
NARROW_WORK, STAGE_WORK, JOIN_WORK, SOURCE_ROWS = 35, 25, 210, 544
LOOKUP_CYCLES = 4  # of a warp's 32 reads of one table, in a few lines of it
# Cycles of a block's mask that wait: rows counted and written twice, the reads that the tests allow for most slices,
# barriers, and atomics on one word by each of the most runs that a slice had.
ROW_CYCLES, READ_CYCLES, BARRIER_CYCLES, ATOMIC_CYCLES = 4_300, 150 * 35, 60 * 40, 2_027 * 4
START_US = 2.0  # of a launch: its blocks start, their first reads arrive, the last ends
LANES = 128
TILES_A_PROCESSOR = 4  # of 256 threads, without which a processor has too few threads to hide that they wait


@dataclass(frozen=True)
class Card:
    """A GPU, by its data sheet.

    Attributes:
        processors: multiprocessors; ghz: their clock; gb_per_s: of its memory; aim: (batch, microseconds a slice).
    """

    name: str
    processors: int
    ghz: float
    gb_per_s: float
    aims: tuple[tuple[int, float], ...] = ()


CARDS = (
    Card("H100 (SXM)", 132, 1.7, 3350, ((1, 100.0), (64, 6.0))),
    Card("RTX 4090", 128, 2.5, 1008),
    Card("Orin Nano 8 GB (15 W)", 8, 0.625, 68, ((8, 80.0),)),
)
BATCHES = (1, 8, 64)


def side_of(card: Card, batch: int) -> str:
    """What the samples of a card and a batch are called."""
    return f"{card.name}, batch {batch}"


def estimate(card: Card, batch: int) -> list[float]:
    """Microseconds of a batch by phase, the way that a run takes; copies to the GPU come on top."""
    spread = batch <= SPREAD_SLICES_A_PROCESSOR * card.processors
    cycles, traffic = 1e3 * card.ghz, 1e3 * card.gb_per_s  # a microsecond
    busy = min(card.processors, batch * kernel.TILES / TILES_A_PROCESSOR) if spread else card.processors
    tables = max(GROUPS * GROUP_WORK / LANES, 8 * GROUPS / 32 * LOOKUP_CYCLES)
    words = WORDS * (ERODE_WORK + DILATE_WORK + WORD_WORK) / LANES
    waits = ROW_CYCLES + READ_CYCLES + BARRIER_CYCLES + ATOMIC_CYCLES
    resize = SOURCE_ROWS * (CROP * NARROW_WORK + 64 * STAGE_WORK) + CROP * CROP / 8 * JOIN_WORK
    # A slice a block: two blocks a processor, of which one works while the other waits.
    turns = math.ceil(batch / card.processors)
    mask = turns * words + (turns if spread else math.ceil(turns / BLOCKS_A_PROCESSOR)) * waits
    return [
        max(batch * tables / busy / cycles, batch * BYTES_IN / traffic),
        mask / cycles,
        max(batch * resize / LANES / busy / cycles, batch * BYTES_RESIZE / traffic),
        START_US * (len(kernel.SPREAD) if spread else 1),
    ]


def registers(nvcc: str) -> dict[str, float]:
    """By compute capability and kernel the registers of a thread; and the bytes that are spilled, of all together."""
    found: dict[str, float] = {}
    spilled = 0
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ARCHITECTURES:
            command = [nvcc, f"-arch=sm_{architecture}", "-cubin", "-O3", "-std=c++17", "-Xptxas", "-v"]
            command += ["-o", str(Path(folder, "preprocess.cubin")), str(kernel.SOURCE)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            names = re.findall(r"Compiling entry function '(\w+)'", said)
            used = re.findall(r"Used (\d+) registers", said)
            for name, count in zip(names, used, strict=True):
                found[f"SM {int(architecture) / 10:.1f}: {name}"] = float(count)
            spilled += sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    return found | {"bytes spilled": float(spilled)}


@click.command()
@record_option()
def main(out: Path) -> None:
    """Estimate what the CUDA preprocessing takes on GPUs that are not here, and append the record.

    Raises:
        MissingDependency: no nvcc is here to say what registers the kernels take.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise MissingDependency("nvcc is not on the path: without it nobody knows the registers")
    samples: dict[str, list[float]] = {}
    for card, batch in product(CARDS, BATCHES):
        samples[side_of(card, batch)] = phases = estimate(card, batch)
        about = ", ".join(f"{name} {us:.1f}" for name, us in zip(PHASES, phases, strict=True))
        render.echo(f"{side_of(card, batch):<32} {sum(phases) / batch:6.1f} us a slice: {about}")
    summary = registers(nvcc)
    release = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    keep(out, WHAT, "us", samples, summary, phases=list(PHASES), nvcc=release)


if __name__ == "__main__":
    start(main)

"""`preprocess.cu` compiled for the CPU and launched from NumPy arrays."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess import kernel
from dtvit_edge.spec import PixelEncoding, PreprocessSpec

HERE = Path(__file__).parent
GUARD = 64  # bytes behind every buffer that must stay as they are
GARBAGE = 0xA5
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC")


def compile_for_cpu(
    compiler: str, folder: Path, source: Path = kernel.SOURCE.parent, *, optimised: bool = True
) -> ctypes.CDLL:
    """The kernel, out of its folder or another one, as a shared library; what runs once compiles faster unoptimised."""
    library = folder / "preprocess.so"
    include = ("-I", str(HERE), "-I", str(source))
    optimisation = "-O2" if optimised else "-O0"
    subprocess.run([compiler, *FLAGS, optimisation, *include, "-o", str(library), str(HERE / "launch.cpp")], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.dependent_reads.restype = ctypes.c_ulonglong
    return loaded


@dataclass(frozen=True)
class Launched:
    """Pixels (N, C, crop, crop) uint8, `kernel.HEAD_STATS` of each slice, and how many reads waited for others."""

    pixels: NDArray[np.uint8]
    stats: NDArray[np.void]
    dependent_reads: int


def launch(
    library: ctypes.CDLL,
    slices: Sequence[tuple[NDArray[np.uint16], PixelEncoding]],
    spec: PreprocessSpec,
    *,
    blocks: int = 2,
    threads: int | None = 48,
    seed: int = 0,
    masks: bool = True,
    shared_runs: int = 0,
    run_capacity: int = kernel.RUN_CAPACITY,
    tiles: int = 0,
    order: Sequence[str] = kernel.SPREAD,
) -> Launched:
    """Prepare slices; every buffer starts as garbage, and what lies behind it is watched.

    Args:
        blocks: of `preprocess`, where no tiles are asked for.
        threads: None for each kernel's own number.
        tiles: of each slice, by the three kernels of `order`.
    """
    shapes = [stored.shape for stored, _ in slices]
    places = np.cumsum([0, *(kernel.stored_bytes(shape) for shape in shapes)])
    stored_memory = _garbage(int(places[-1]))
    placed = [
        kernel.PlacedSlice(stored_memory.ctypes.data + int(place), stored.shape, encoding)
        for (stored, encoding), place in zip(slices, places[:-1], strict=True)
    ]
    for (stored, _), place in zip(slices, places[:-1], strict=True):
        kernel.write_stored(stored, stored_memory[place:])
    constants = kernel.Constants(spec)
    parts = constants.add(placed)
    constant_memory = _garbage(constants.end)
    for start, part in parts:
        constant_memory[start : start + part.nbytes] = part
    inputs, count = constants.inputs(placed), len(slices)
    size = kernel.largest(placed)
    each = kernel.scratch_bytes(*size, spec.channels, run_capacity)
    memory = _garbage((count if tiles else blocks) * each)
    shape = (count, spec.channels, spec.crop, spec.crop)
    out, stats = _garbage(int(np.prod(shape))), np.zeros(count, kernel.HEAD_STATS)
    mask = kernel.mask_bytes(*size) * masks
    area = mask + max(mask + 12 * shared_runs, kernel.ROOM_BYTES)
    scratch = (memory.ctypes.data, each, run_capacity, shared_runs, tiles, masks)
    addresses = [array.ctypes.data for array in (inputs, constant_memory, out, stats)]
    arguments = np.array((*addresses, scratch, kernel.spec_of(spec)[()], count), kernel.ARGUMENTS)
    shared = 4 * kernel.SMALL_WORDS + area
    steps = {kernel.WHOLE: blocks}
    if tiles:
        steps = {name: count * (1 if name == "preprocess_mask" else tiles) for name in order}
    library.dependent_reads()
    for name, number in steps.items():
        number_of_threads = threads or kernel.THREADS[name]
        numbers = (ctypes.c_uint(n) for n in (number, number_of_threads, shared, seed))
        status = library.launch(kernel.ENTRIES.index(name), ctypes.c_void_p(arguments.ctypes.data), *numbers)
        assert status == 0, "a barrier was reached by some threads of a block only"
    for buffer in (memory, out, constant_memory, stored_memory):
        assert (buffer[-GUARD:] == GARBAGE).all(), "written behind a buffer"
    return Launched(out[:-GUARD].reshape(shape), stats, int(library.dependent_reads()))


def _garbage(nbytes: int) -> NDArray[np.uint8]:
    """So many bytes and the guard behind them, aligned as a GPU's memory is."""
    memory = np.full(nbytes + GUARD + 255, GARBAGE, np.uint8)
    return memory[-memory.ctypes.data % 256 :][: nbytes + GUARD]

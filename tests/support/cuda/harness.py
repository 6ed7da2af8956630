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
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def compile_for_cpu(
    compiler: str, folder: Path, source: Path = kernel.SOURCE.parent, *, optimised: bool = True
) -> ctypes.CDLL:
    """The kernel, out of its folder or another one, as a shared library; what runs once compiles faster unoptimised."""
    library = folder / "preprocess.so"
    include = ("-I", str(HERE), "-I", str(source))
    optimisation = "-O2" if optimised else "-O0"
    subprocess.run([compiler, *FLAGS, optimisation, *include, "-o", str(library), str(HERE / "launch.cpp")], check=True)
    return ctypes.CDLL(str(library))


@dataclass(frozen=True)
class Launched:
    """What a launch left behind: pixels (N, C, crop, crop) uint8 and `kernel.HEAD_STATS` of each slice."""

    pixels: NDArray[np.uint8]
    stats: NDArray[np.void]


def launch(
    library: ctypes.CDLL,
    slices: Sequence[tuple[NDArray[np.uint16], PixelEncoding]],
    spec: PreprocessSpec,
    *,
    blocks: int = 2,
    threads: int = 48,
    seed: int = 0,
    masks: bool = True,
    run_capacity: int = kernel.RUN_CAPACITY,
) -> Launched:
    """Prepare slices; every buffer starts as garbage, and what lies behind it is watched."""
    batch = kernel.pack(slices, spec)
    each = kernel.scratch_bytes(*batch.largest, spec.crop, run_capacity, masks=masks)
    memory = np.full(blocks * each + GUARD, 0xA5, np.uint8)
    count = len(slices)
    shape = (count, spec.channels, spec.crop, spec.crop)
    out = np.full(int(np.prod(shape)) + GUARD, 0xA5, np.uint8)
    stats = np.zeros(count, kernel.HEAD_STATS)
    scratch = np.zeros((), kernel.SCRATCH)
    scratch["memory"], scratch["bytes"] = memory.ctypes.data, each
    scratch["run_capacity"], scratch["masks_in_shared"] = run_capacity, masks
    kernel_spec = kernel.spec_of(spec)
    shared = kernel.shared_bytes(*batch.largest, masks=masks) // 4
    packed = np.full(batch.layout.end + GUARD, 0xA5, np.uint8)
    layout = batch.write(packed[:-GUARD])
    starts = (layout.inputs, layout.tables, layout.axes, layout.stored)
    inputs, tables, axes, stored = (ctypes.c_void_p(packed.ctypes.data + start) for start in starts)
    spec_, scratch_, out_, stats_ = (ctypes.c_void_p(a.ctypes.data) for a in (kernel_spec, scratch, out, stats))
    arguments = [inputs, ctypes.c_int(count), stored, tables, axes, spec_, scratch_, out_, stats_]
    numbers = [ctypes.c_uint(n) for n in (blocks, threads, shared, seed)]
    assert library.launch(*arguments, *numbers) == 0, "a barrier was reached by some threads of a block only"
    for buffer in (memory, out, packed):
        assert (buffer[-GUARD:] == 0xA5).all(), "written behind a buffer"
    return Launched(out[:-GUARD].reshape(shape), stats)

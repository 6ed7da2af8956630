"""What is missing where threads, blocks and launches have no order is noticed; and through nvcc."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import shutil
import signal
import subprocess
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor, PreparedSlice
from tests.support.cuda import harness
from tests.support.cuda.kernel_cases import heads, same
from tests.support.preprocess_cases import PLAIN, THREE

NVCC = shutil.which("nvcc")
# Compute capabilities of what this runs on: T4, A100, RTX 30, Orin, RTX 40, H100, B200, Thor, RTX 50.
ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "110", "120")
QUICK = ("75", "87", "90")  # the others take as long each
# Registers of 65,536 a processor: two blocks of 512 threads, or one of 1,024.
MOST_REGISTERS = 64

# Numbered as the compiler meets them: preprocess.cu includes the others before its own first one.
BARRIERS = [
    barrier for path in (*kernel.source_files()[1:], kernel.SOURCE)
    for barrier in re.findall(r"__syncthreads(?:_or)?\(.*", path.read_text())
]  # fmt: skip
FOR_SPEED_ALONE = "__syncthreads_or(moved));"


@pytest.mark.parametrize("barrier", range(len(BARRIERS)))
def test_shuffled_threads_find_every_barrier_that_is_missing(kernel_library: ctypes.CDLL, barrier: int) -> None:
    assert kernel_library.barriers() == len(BARRIERS) and BARRIERS.count(FOR_SPEED_ALONE) == 1
    assert survives_shuffling(kernel_library, barrier) == (BARRIERS[barrier] == FOR_SPEED_ALONE)


def test_shuffled_threads_find_nothing_where_no_barrier_is_missing(kernel_library: ctypes.CDLL) -> None:
    assert survives_shuffling(kernel_library, -1)


def survives_shuffling(library: ctypes.CDLL, without: int) -> bool:
    """Do threads in eight orders give what the CPU path gives, one barrier left out?"""
    slices, wanted = heads(), expected()
    child = os.fork()  # it may crash, or go on for ever
    if not child:
        faulthandler.disable()
        signal.alarm(20)
        try:
            library.skip_barrier(without)
            equal = all(
                np.array_equal(pixels, one.pixels) and stats["head"] == one.head_pixels
                for seed in range(8)
                for way in ({"blocks": 1}, {"tiles": 2, "shared_runs": 100})
                for launched in [harness.launch(library, slices, THREE, seed=seed, threads=(11, 40)[seed % 2], **way)]
                for pixels, stats, one in zip(launched.pixels, launched.stats, wanted, strict=True)
            )
        except BaseException:
            os._exit(1)
        os._exit(0 if equal else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


@lru_cache(maxsize=1)
def expected() -> list[PreparedSlice]:
    return [CpuPreprocessor(THREE)(*one) for one in heads()]


@pytest.mark.parametrize(
    "order", list(permutations(kernel.SPREAD)), ids=lambda o: ", ".join(n.partition("_")[2] for n in o)
)
def test_each_launch_needs_the_one_before_and_blocks_need_no_order(
    kernel_library: ctypes.CDLL, order: tuple[str, ...]
) -> None:
    in_order = order == kernel.SPREAD
    for seed in range(3):
        with np.errstate(all="ignore"):
            assert same(kernel_library, heads()[:3], PLAIN, tiles=9, seed=seed, order=order) == in_order


@pytest.mark.parametrize("missing", kernel.SPREAD)
def test_a_launch_that_is_missing_is_noticed(kernel_library: ctypes.CDLL, missing: str) -> None:
    order = [name for name in kernel.SPREAD if name != missing]
    assert not same(kernel_library, heads()[:3], PLAIN, tiles=9, order=order)


@pytest.mark.skipif(NVCC is None, reason="no nvcc here")
@pytest.mark.parametrize(
    "architecture", [pytest.param(a, marks=[] if a in QUICK else pytest.mark.real) for a in ARCHITECTURES]
)
def test_nvcc_compiles_it_without_a_warning_or_a_spill(architecture: str, tmp_path: Path) -> None:
    command = [str(NVCC), f"-arch=sm_{architecture}", "-cubin", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "x.cubin"), str(kernel.SOURCE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == len(kernel.ENTRIES)
    registers = [int(used) for used in re.findall(r"Used (\d+) registers", done.stderr)]
    assert len(registers) == len(kernel.ENTRIES) and max(registers) <= MOST_REGISTERS
    assert (tmp_path / "x.cubin").stat().st_size > 1000

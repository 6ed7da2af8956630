"""`preprocess.cu` on the CPU, its threads shuffled, against the CPU path, bit for bit; and through nvcc."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import shutil
import signal
import subprocess
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec
from evaluation.images import read_image
from evaluation.labels import read_labels
from tests.support.cuda import harness
from tests.support.data import real
from tests.support.preprocess_cases import PLAIN, SIGNED, THREE, UNSIGNED, Case, cases
from training.phe_sich import convert

COMPILER = shutil.which("g++") or shutil.which("c++")
NVCC = shutil.which("nvcc")
ARCHITECTURES = ("75", "86", "87", "89", "90", "110", "120")

Slices = list[tuple[NDArray[np.uint16], PixelEncoding]]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here (g++)")


def same(kernel_library: ctypes.CDLL, slices: Slices, spec: PreprocessSpec, **options: int) -> bool:
    """Does one launch give what the CPU path gives, slice by slice?"""
    launched = harness.launch(kernel_library, slices, spec, **options)  # type: ignore[arg-type]
    prepare = CpuPreprocessor(spec)
    equal = True
    for (stored, encoding), pixels, stats in zip(slices, launched.pixels, launched.stats, strict=True):
        expected = prepare(stored, encoding)
        share = stats["brain"] / stats["head"] if stats["head"] else 0.0
        equal &= stats["status"] == kernel.PREPARED
        equal &= np.array_equal(pixels, expected.pixels) and stats["head"] == expected.head_pixels
        equal &= share == expected.brain_share
    return bool(equal)


@needs_compiler
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in cases()])
def test_every_reference_case_is_bit_equal(kernel_library: ctypes.CDLL, case: Case) -> None:
    if case.spec.resize is None and min(case.stored.shape) < case.spec.crop:
        pytest.skip("refused below the crop")
    seed = len(case.name)
    one = [(case.stored, case.encoding)]
    options = {"seed": seed, "masks": seed % 2, "threads": (1, 33, 48, 256)[seed % 4], "run_capacity": 1 << 16}
    assert same(kernel_library, one, case.spec, **options)


@needs_compiler
@pytest.mark.parametrize("spec", [PLAIN, THREE], ids=["one window", "three windows"])
def test_a_batch_of_many_sizes_and_encodings_goes_through_few_blocks(
    kernel_library: ctypes.CDLL, spec: PreprocessSpec
) -> None:
    slices = [(c.stored, c.encoding) for c in cases() if c.spec == PLAIN and not c.encoding.windowed]
    assert len({stored.shape for stored, _ in slices}) > 8 and len({encoding for _, encoding in slices}) > 6
    for masks in (0, 1):
        assert same(kernel_library, slices, spec, blocks=3, masks=masks, run_capacity=1 << 19)


def noise(seed: int) -> tuple[NDArray[np.uint16], PixelEncoding]:
    """Noise of one of several grains, sizes odd and even, dense and sparse: what a mask is worst at."""
    rng = np.random.default_rng(seed)
    rows, columns = (int(n) for n in rng.integers(32, 200, 2))
    grain = int(rng.choice([1, 2, 5, 9]))
    coarse = rng.normal(0, 1, (rows // grain + 1, columns // grain + 1))
    image = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    hu = np.where(image > rng.uniform(-1.5, 1.0), 40, -1000) + rng.normal(0, rng.uniform(0, 40), image.shape)
    return hu.astype(np.int16).view(np.uint16), SIGNED


@needs_compiler
@pytest.mark.parametrize("part", range(4))
def test_noise_of_every_grain_is_bit_equal(kernel_library: ctypes.CDLL, part: int) -> None:
    slices = [noise(seed) for seed in range(50 * part, 50 * part + 50)]
    kept = [CpuPreprocessor(PLAIN)(*one).head_pixels for one in slices]
    assert sum(pixels > 0 for pixels in kept) > 5
    assert same(kernel_library, slices, PLAIN, seed=part, masks=part % 2)


@needs_compiler
def test_real_studies_are_bit_equal(kernel_library: ctypes.CDLL) -> None:
    plan = discover(walk([real("studies")]), any_series=True)
    reader = SliceReader()
    headers = [header for series in plan.series for header in series.headers]
    assert len(headers) >= 28
    assert same(kernel_library, [(reader.read(h).stored, h.encoding) for h in headers], PLAIN, threads=96)


@needs_compiler
def test_real_windowed_slices_are_bit_equal(kernel_library: ctypes.CDLL, tmp_path: Path) -> None:
    convert(real("phe-sich"), tmp_path / "labels.csv")
    chosen = read_labels(tmp_path / "labels.csv")[::24]
    assert len(chosen) > 120
    assert same(kernel_library, [read_image(labelled.file) for labelled in chosen], PLAIN, blocks=5)


@needs_compiler
def test_more_runs_than_the_scratch_holds_are_said_and_nothing_is_written(kernel_library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(0)
    quiet = np.full((512, 512), -1000, np.int16)
    quiet[200:300, 100:400] = 40
    grid = np.full((512, 512), 40, np.int16)
    grid[::12, ::12] = -1000  # what is left after erosion has forty runs a row
    ring = np.where(rng.random((512, 512)) < 0.5, 40, -1000).astype(np.int16)
    ring[100:400, 100:400] = 40  # eroded it is one square; its dilated border is full of holes
    slices = [(image.view(np.uint16), SIGNED) for image in (grid, quiet, ring)]
    launched = harness.launch(kernel_library, slices, PLAIN, run_capacity=700)
    assert launched.stats["status"].tolist() == [
        kernel.TOO_MANY_RUNS,
        kernel.PREPARED,
        kernel.TOO_MANY_RUNS,
    ]
    assert (launched.stats["runs"][[0, 2]] > 700).all()
    assert (launched.pixels[[0, 2]] == 0xA5).all(), "the output of a slice that was given up"
    np.testing.assert_array_equal(launched.pixels[1], CpuPreprocessor(PLAIN)(*slices[1]).pixels)
    most = int(harness.launch(kernel_library, slices, PLAIN, run_capacity=1 << 17).stats["runs"].max())
    assert same(kernel_library, slices, PLAIN, run_capacity=most)
    assert not same(kernel_library, slices, PLAIN, run_capacity=most - 1)


@lru_cache(maxsize=1)
def heads() -> Slices:
    """Small and large by turns: masks with holes, zeros at the border that are none, squares and one a row larger."""
    by_size = sorted(range(200), key=lambda seed: CpuPreprocessor(PLAIN)(*noise(seed)).head_pixels)
    squares = np.full((300, 320), -1000, np.int16)
    for i in range(4):
        for j in range(5):
            squares[10 + 70 * i :, 12 + 60 * j :][: 40 + (i == j == 2), :40] = 40 + 10 * i
    noisy = [noise(seed) for seed in by_size[-4:]]
    return [noisy[0], (squares.view(np.uint16), SIGNED), noisy[1], noise(by_size[0]), noisy[2], noisy[3]]


def barriers() -> list[int]:
    """Where the source waits for all threads."""
    return [barrier.start() for barrier in re.finditer(r"__syncthreads\(\);", kernel.SOURCE.read_text())]


@needs_compiler
@pytest.mark.parametrize("place", range(len(barriers())))
def test_shuffled_threads_find_every_barrier_that_is_missing(place: int, tmp_path: Path) -> None:
    source = kernel.SOURCE.read_text()
    start = barriers()[place]
    assert not survives_shuffling(source[:start] + ";" + source[start + len("__syncthreads();") :], tmp_path)


@needs_compiler
def test_shuffled_threads_find_nothing_where_no_barrier_is_missing(tmp_path: Path) -> None:
    assert survives_shuffling(kernel.SOURCE.read_text(), tmp_path)


def survives_shuffling(source: str, folder: Path) -> bool:
    """Do threads in eight orders give what the CPU path gives?"""
    assert COMPILER is not None
    (folder / "preprocess.cu").write_text(source)
    library = harness.compile_for_cpu(COMPILER, folder, source=folder, optimised=False)
    slices = heads()
    expected = [CpuPreprocessor(THREE)(*one) for one in slices]
    child = os.fork()  # it may crash, or go on for ever
    if not child:
        faulthandler.disable()
        signal.alarm(20)
        equal = all(
            np.array_equal(pixels, wanted.pixels) and stats["head"] == wanted.head_pixels
            for seed in range(8)
            for launched in [harness.launch(library, slices, THREE, seed=seed, threads=11, blocks=1)]
            for pixels, stats, wanted in zip(launched.pixels, launched.stats, expected, strict=True)
        )
        os._exit(0 if equal else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


def test_what_the_kernel_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="33 x 1025 matrix is larger than 1024"):
        kernel.pack([(np.zeros((33, 1025), np.uint16), UNSIGNED)], PLAIN)
    for widths in ((1, 2), (0,) * 33, (40,)):
        with pytest.raises(ConfigError, match="disks of an odd number of rows up to 31"):
            kernel.spec_of(PreprocessSpec(disk_half_widths=widths))


def test_the_masks_of_512_by_512_fit_where_the_design_says() -> None:
    assert kernel.mask_bytes(512, 512) == 32 << 10
    assert kernel.shared_bytes(512, 512, masks=True) <= 99 << 10  # SM 8.6, 8.9 and 12.0
    assert kernel.shared_bytes(512, 512, masks=True) > 64 << 10  # SM 7.5 keeps them in scratch
    assert kernel.shared_bytes(1024, 1024, masks=False) < 48 << 10


@pytest.mark.skipif(NVCC is None, reason="no nvcc here")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles_it_without_a_warning_or_a_spill(architecture: str, tmp_path: Path) -> None:
    command = [str(NVCC), f"-arch=sm_{architecture}", "-cubin", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "x.cubin"), str(kernel.SOURCE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in done.stderr
    assert (tmp_path / "x.cubin").stat().st_size > 1000

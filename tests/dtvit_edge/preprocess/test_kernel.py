"""`preprocess.cu` on the CPU, its threads and blocks shuffled, against the CPU path, bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import render_study
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.resample import resample_plan
from dtvit_edge.spec import PixelEncoding, PreprocessSpec
from evaluation.images import read_image
from evaluation.labels import read_labels
from tests.support.cuda import harness
from tests.support.cuda.kernel_cases import Slices, combs, noise, same
from tests.support.data import real
from tests.support.preprocess_cases import PLAIN, SIGNED, THREE, UNMASKED, UNSIGNED, Case, cases, store
from training.phe_sich import convert

WAYS = [pytest.param({}, id="a slice a block"), pytest.param({"tiles": 5}, id="spread")]
# Of a labelling at 1,024 threads; DEPENDENT_READS in labels.cuh says which reads wait for an earlier one.
MOST_READS_OF_A_SLICE, MOST_READS_OF_A_COMB = 150, 600


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in cases()])
def test_every_reference_case_is_bit_equal(kernel_library: ctypes.CDLL, case: Case) -> None:
    if case.spec.resize is None and min(case.stored.shape) < case.spec.crop:
        pytest.skip("refused below the crop")
    seed = len(case.name)
    one = [(case.stored, case.encoding)]
    options = {"seed": seed, "masks": seed % 2, "threads": (1, 33, 48, 256)[seed % 4], "run_capacity": 1 << 16}
    options |= {"tiles": (0, 3)[seed // 2 % 2], "shared_runs": (0, 300)[seed // 3 % 2]}
    assert same(kernel_library, one, case.spec, **options)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", [PLAIN, THREE], ids=["one window", "three windows"])
def test_a_batch_of_many_sizes_and_encodings(
    kernel_library: ctypes.CDLL, spec: PreprocessSpec, way: dict[str, int]
) -> None:
    slices = [(c.stored, c.encoding) for c in cases() if c.spec == PLAIN and not c.encoding.windowed]
    assert len({stored.shape for stored, _ in slices}) > 8 and len({encoding for _, encoding in slices}) > 6
    masks = (spec is PLAIN) == ("tiles" in way)
    assert same(kernel_library, slices, spec, blocks=3, masks=masks, run_capacity=1 << 19, **way)


@pytest.mark.parametrize("part", range(4))
def test_noise_of_every_grain_is_bit_equal(kernel_library: ctypes.CDLL, part: int) -> None:
    slices = [noise(seed) for seed in range(50 * part, 50 * part + 50)]
    kept = [CpuPreprocessor(PLAIN)(*one).head_pixels for one in slices]
    assert sum(pixels > 0 for pixels in kept) > 5
    assert len({stored.shape[1] % 8 for stored, _ in slices}) == 8
    tiles, shared_runs = (0, 7)[part // 2], (0, 60)[part % 2]
    assert same(kernel_library, slices, PLAIN, seed=part, masks=part % 2, tiles=tiles, shared_runs=shared_runs)


def test_a_slice_has_the_same_bytes_alone_and_in_a_batch_both_ways_and_with_the_gpus_threads(
    kernel_library: ctypes.CDLL,
) -> None:
    study = render_study(5, "lobar", indices=(4, 12)).slices
    slices = [(store(s.hu, SIGNED), SIGNED) for s in study] + [noise(7)]
    together = harness.launch(kernel_library, slices, THREE, blocks=2, threads=None)
    for i, one in enumerate(slices):
        spread = harness.launch(kernel_library, [one], THREE, threads=None, tiles=kernel.TILES, shared_runs=500)
        assert np.array_equal(spread.pixels[0], together.pixels[i]) and spread.stats[0] == together.stats[i]


def test_a_crop_that_is_no_multiple_of_eight_and_no_mask(kernel_library: ctypes.CDLL) -> None:
    spec = PreprocessSpec(crop=99, resize=131, filter="bicubic", device_mask=False, windows=UNMASKED.windows)
    slices = [noise(seed) for seed in (3, 4)] + [
        (store(render_study(1, "deep", indices=(9,)).slices[0].hu, SIGNED), SIGNED)
    ]
    for way in ({"tiles": 4}, {"masks": 0}):
        assert same(kernel_library, slices, spec, **way)


@pytest.mark.parametrize(("crop", "resize"), [(32, 32), (99, 101), (1024, 1024)])
def test_the_widest_filters_of_any_spec_fit_the_resize(crop: int, resize: int) -> None:
    spec = PreprocessSpec(crop=crop, resize=resize, filter="bicubic")
    plan, padded = resample_plan(1020, 1024, spec), -(-crop // 8) * 8
    assert 3 * plan.vertical.taps.shape[1] * padded <= kernel.NARROW_BYTES
    assert 2048 + plan.horizontal.taps.shape[1] <= kernel.LINES_BYTES
    band = kernel._band(plan.vertical, crop)
    ends = plan.vertical.start[np.minimum(np.arange(crop) + band, crop) - 1] + plan.vertical.taps.shape[1]
    assert (ends - plan.vertical.start).max() * padded <= kernel.NARROW_BYTES


def test_real_studies_are_bit_equal(kernel_library: ctypes.CDLL) -> None:
    slices = real_slices()
    assert len(slices) >= 28
    assert same(kernel_library, slices[::2], PLAIN, threads=96, shared_runs=1000)
    assert same(kernel_library, slices[1::2], PLAIN, threads=96, tiles=kernel.TILES)


def real_slices() -> Slices:
    plan = discover(walk([real("studies")]), any_series=True)
    reader = SliceReader()
    return [(reader.read(h).stored, h.encoding) for series in plan.series for h in series.headers]


def test_real_windowed_slices_are_bit_equal(kernel_library: ctypes.CDLL, tmp_path: Path) -> None:
    convert(real("phe-sich"), tmp_path / "labels.csv")
    chosen = read_labels(tmp_path / "labels.csv")[::24]
    assert len(chosen) > 120
    assert same(kernel_library, [read_image(labelled.file) for labelled in chosen], PLAIN, blocks=5)


@pytest.mark.parametrize("way", WAYS)
def test_more_runs_than_the_scratch_holds_are_said_and_nothing_is_written(
    kernel_library: ctypes.CDLL, way: dict[str, int]
) -> None:
    rng = np.random.default_rng(0)
    quiet = np.full((512, 512), -1000, np.int16)
    quiet[200:300, 100:400] = 40
    grid = np.full((512, 512), 40, np.int16)
    grid[::12, ::12] = -1000  # what is left after erosion has forty runs a row
    ring = np.where(rng.random((512, 512)) < 0.5, 40, -1000).astype(np.int16)
    ring[100:400, 100:400] = 40  # eroded it is one square; its dilated border is full of holes
    slices = [(image.view(np.uint16), SIGNED) for image in (grid, quiet, ring)]
    launched = harness.launch(kernel_library, slices, PLAIN, run_capacity=700, **way)
    assert launched.stats["status"].tolist() == [
        kernel.TOO_MANY_RUNS,
        kernel.PREPARED,
        kernel.TOO_MANY_RUNS,
    ]
    assert (launched.stats["runs"][[0, 2]] > 700).all()
    assert (launched.pixels[[0, 2]] == harness.GARBAGE).all(), "the output of a slice that was given up"
    np.testing.assert_array_equal(launched.pixels[1], CpuPreprocessor(PLAIN)(*slices[1]).pixels)
    most = int(harness.launch(kernel_library, slices, PLAIN, run_capacity=1 << 17, **way).stats["runs"].max())
    assert same(kernel_library, slices, PLAIN, run_capacity=most, **way)
    assert not same(kernel_library, slices, PLAIN, run_capacity=most - 1, **way)


def reads(library: ctypes.CDLL, slices: Slices) -> Iterator[int]:
    """Of each slice alone, at the threads of `preprocess_mask`."""
    for one in slices:
        launched = harness.launch(library, [one], PLAIN, threads=kernel.THREADS["preprocess_mask"], tiles=2)
        assert launched.stats["status"] == kernel.PREPARED
        yield launched.dependent_reads


def test_labels_of_a_slice_take_few_reads_that_wait_for_each_other(kernel_library: ctypes.CDLL) -> None:
    phantoms = [(store(s.hu, SIGNED), SIGNED) for s in render_study(1, "deep").slices[::8]]
    counted = list(reads(kernel_library, phantoms))
    assert 10 < np.median(counted) <= MOST_READS_OF_A_SLICE, counted


def test_labels_of_a_real_slice_take_few_reads_that_wait_for_each_other(kernel_library: ctypes.CDLL) -> None:
    counted = list(reads(kernel_library, real_slices()[::10]))
    assert 10 < np.median(counted) <= MOST_READS_OF_A_SLICE, counted


@pytest.mark.parametrize("name", combs())
def test_labels_of_a_comb_just_under_the_capacity_take_few_reads(kernel_library: ctypes.CDLL, name: str) -> None:
    slices = combs()[name]
    most = MOST_READS_OF_A_COMB
    launched = harness.launch(kernel_library, slices, PLAIN, threads=kernel.THREADS["preprocess_mask"], tiles=2)
    assert kernel.RUN_CAPACITY * 0.7 < launched.stats["runs"][0] <= kernel.RUN_CAPACITY
    assert launched.dependent_reads <= most
    assert np.array_equal(launched.pixels[0], CpuPreprocessor(PLAIN)(*slices[0]).pixels)


def test_what_the_kernel_does_not_take_is_refused() -> None:
    constants = kernel.Constants(PLAIN)
    with pytest.raises(ConfigError, match="33 x 1025 matrix is larger than 1024"):
        constants.add([kernel.PlacedSlice(0, (64, 64), SIGNED), kernel.PlacedSlice(0, (33, 1025), UNSIGNED)])
    assert constants.end == 0, "nothing of it was added"
    for widths in ((1, 1), (0,) * 33):
        with pytest.raises(ConfigError, match="disks of an odd number of rows up to 31"):
            kernel.spec_of(PreprocessSpec(disk_half_widths=widths))


def test_tables_and_weights_are_placed_once() -> None:
    constants = kernel.Constants(THREE)
    one, other = kernel.PlacedSlice(16, (512, 512), SIGNED), kernel.PlacedSlice(32, (33, 40), PixelEncoding(slope=2.0))
    first = constants.add([one, one])
    assert first[0][1].nbytes == 3 * 65536 and len(first) == 3 and not constants.add([one])
    again = constants.add([one, other])
    assert again[0][0] == kernel.aligned(first[-1][0] + first[-1][1].nbytes) and len(again) == 3
    inputs = constants.inputs([other, one])
    assert inputs["stored"].tolist() == [32, 16] and inputs["table"].tolist() == [again[0][0], first[0][0]]
    assert len({*inputs["table"], *inputs["horizontal"], *inputs["vertical"]}) == 6


@pytest.mark.parametrize(
    ("limit_kib", "side", "masks", "least_runs"),
    [
        pytest.param(227, 512, True, 12_000, id="SM 9.0"),
        pytest.param(163, 512, True, 7_000, id="SM 8.7"),
        pytest.param(99, 512, True, 2_000, id="SM 8.6, 8.9 and 12.0"),
        pytest.param(64, 512, False, 5_000, id="SM 7.5"),
        pytest.param(227, 1024, False, 16_384, id="1024 x 1024"),
        pytest.param(113, 512, True, 3_000, id="two blocks on SM 9.0"),
        pytest.param(44, 512, False, 0, id="next to nothing"),
    ],
)
def test_shared_memory_holds_labels_then_masks(limit_kib: int, side: int, masks: bool, least_runs: int) -> None:
    shared = kernel.SharedMemory.within(limit_kib << 10, side, side)
    assert shared.masks == masks and least_runs <= shared.runs <= kernel.RUN_CAPACITY
    most = max(limit_kib << 10, 4 * kernel.SMALL_WORDS + kernel.ROOM_BYTES)
    held = 4 * kernel.SMALL_WORDS + masks * 2 * kernel.mask_bytes(side, side) + 12 * shared.runs
    assert held <= shared.nbytes <= most


def test_rows_of_a_mask_are_an_odd_number_of_words_apart() -> None:
    for columns in (32, 33, 64, 512, 630, 1024):
        words = kernel.mask_bytes(4, columns) // 16
        assert words % 2 == 1 and 32 * words >= columns

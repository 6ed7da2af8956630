"""Shifts of the scanner: what each does to HU, what it leaves alone, and that it is the same each time."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import WINDOWED_8_BIT, PixelEncoding, PreprocessSpec
from evaluation.image_sets import stored_pixels
from evaluation.labels import LabelledSlice
from evaluation.sampling import SliceSet, candidates, load_set
from evaluation.scanner_shifts import FIELD_MM, SHIFTS, ScannerShift, noise_of, shifted, shifted_sets

SPEC = PreprocessSpec()
BY_NAME = {shift.name: shift for shift in SHIFTS}
ENCODING = PixelEncoding(bits_stored=12, high_bit=11, signed=False, intercept=-1024.0)


def phantom() -> np.ndarray:
    """A rendered head, (512, 512) HU."""
    named = LabelledSlice(Path("x"), "phantom-7-12", "phantom-7", True, None)
    return stored_pixels(named)[0].view(np.int16).astype(np.int64)


def hu_after(name: str, hu: np.ndarray, seed: int = 0) -> np.ndarray:
    stored = (np.clip(hu + 1024, 0, 4095).astype(np.uint16), ENCODING)
    pixels, encoding = shifted(stored, BY_NAME[name], SPEC, seed=(seed,))
    return encoding.values(pixels) * encoding.slope + encoding.intercept


def windowed(hu: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(hu / 80, 0, 1)).astype(np.uint16)


@pytest.fixture(scope="module")
def few(pictures: Path) -> SliceSet:
    return load_set(candidates([pictures]), 6, SPEC, seed=0, name="test")


@pytest.mark.parametrize("offset", [10, -10])
def test_an_offset_moves_every_value_of_a_stored_slice(offset: int) -> None:
    hu = phantom()
    np.testing.assert_array_equal(hu_after(f"HU {offset:+d}", hu), np.clip(hu + offset, -1024, 3071))


def test_noise_is_as_strong_as_stated_and_half_a_dose_adds_what_is_there() -> None:
    rng = np.random.default_rng(1)
    flat = np.full((512, 512), 35.0)
    assert np.std(hu_after("noise", flat) - flat) == pytest.approx(5.0, rel=0.02)
    noisy = np.rint(flat + rng.normal(0, 4, flat.shape))
    assert noise_of(noisy.astype(np.float32), FIELD_MM / 512) == pytest.approx(4.0, rel=0.05)
    added = hu_after("half dose", noisy) - noisy
    assert np.std(added) == pytest.approx(4.0, rel=0.06)
    power = np.abs(np.fft.fft2(added)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    low, middle, high = (
        power[(frequency > a) & (frequency < b)].mean() for a, b in ((0, 0.02), (0.1, 0.2), (0.4, 0.5))
    )
    assert low < 0.05 * middle and high < 0.2 * middle  # the grain of a filtered back projection


@pytest.mark.parametrize(("name", "cycles_a_cm"), [("sharper kernel", 5.1), ("softer kernel", 2.6)])
def test_a_kernel_leaves_half_the_contrast_where_it_says(name: str, cycles_a_cm: float) -> None:
    pixel_mm = FIELD_MM / 512
    wave = np.cos(2 * math.pi * cycles_a_cm / 10 * pixel_mm * np.arange(512))
    before = math.exp(-((cycles_a_cm / 3.7) ** 2) * math.log(2))  # of a scanner that leaves half at 3.7
    image = np.tile(np.float32(400 * wave), (512, 1))
    after = BY_NAME[name].apply(image, np.random.default_rng(0), pixel_mm)
    gain = float((after[256, 64:448] * wave[64:448]).sum() / (image[256, 64:448] * wave[64:448]).sum())
    assert before * gain == pytest.approx(0.5, abs=0.04)


def test_zoom_and_tilt_move_the_head_and_bring_in_air() -> None:
    hu = np.full((512, 512), -1000)
    hu[156:356, 206:306] = 40
    zoomed, tilted = hu_after("zoom", hu) > 0, hu_after("tilt", hu) > 0
    assert zoomed.sum() / (hu > 0).sum() == pytest.approx(0.88**2, rel=0.02)
    assert tilted.sum() / (hu > 0).sum() == pytest.approx(1 / math.cos(math.radians(20)), rel=0.02)
    assert tilted.any(axis=0).sum() > 110 and hu_after("zoom", np.full((64, 64), 40))[0, 0] < -900


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda s: s.name)
def test_stored_and_windowed_pictures_of_one_slice_are_shifted_alike_inside_the_head(shift: ScannerShift) -> None:
    hu = phantom()
    direct = CpuPreprocessor(SPEC)(*shifted((np.clip(hu + 1024, 0, 4095).astype(np.uint16), ENCODING), shift, SPEC,
                                            seed=(0,)))  # fmt: skip
    picture = CpuPreprocessor(SPEC)(*shifted((windowed(hu), WINDOWED_8_BIT), shift, SPEC, seed=(0,)))
    assert direct.has_head and picture.has_head
    difference = np.abs(direct.pixels.astype(int) - picture.pixels)
    assert np.median(difference[direct.pixels > 0]) <= 3


@pytest.mark.parametrize("name", ["HU +10", "HU -10", "noise", "half dose"])
def test_what_a_window_clipped_stays_clipped(name: str) -> None:
    image = np.full((128, 128), 120, np.uint16)
    image[:40], image[:, :20] = 255, 0
    image[80, 80] = 0  # a single pixel at the end of the window is noise
    pixels, encoding = shifted((image, WINDOWED_8_BIT), BY_NAME[name], SPEC, seed=(3,))
    assert encoding == WINDOWED_8_BIT
    assert (pixels[:40, 20:] == 255).all() and (pixels[:, :20] == 0).all()
    assert not np.array_equal(pixels[41:, 21:], image[41:, 21:])


def test_the_same_seed_gives_the_same_sets_whatever_the_order(few: SliceSet) -> None:
    first, again = (shifted_sets(few, SPEC, seed=0, count=6) for _ in range(2))
    other = shifted_sets(few, SPEC, seed=1, count=6)
    alone = shifted_sets(few, SPEC, seed=0, count=2, shifts=[BY_NAME["noise"]])
    assert list(first) == [shift.name for shift in SHIFTS]
    for name in first:
        assert first[name].labels.digests == again[name].labels.digests
        assert first[name].labels.patients == few.labels.patients
        assert (first[name].labels.digests != other[name].labels.digests) == (name in ("noise", "half dose"))
        assert not set(first[name].labels.digests) & set(few.labels.digests)
    np.testing.assert_array_equal(alone["noise"].pixels, first["noise"].pixels[:2])


def test_a_slice_without_a_head_gets_none_by_a_shift(few: SliceSet) -> None:
    air = np.full((256, 256), 0, np.uint16), WINDOWED_8_BIT
    some = SliceSet(few.pixels, few.labels, (lambda: air, *few.sources[1:]))
    sets = shifted_sets(some, SPEC, seed=0)
    assert {len(s) for s in sets.values()} == {5}
    assert all(s.labels.patients == few.labels.patients[1:] for s in sets.values())
    with pytest.raises(ConfigError, match="no slice shows brain under these shifts"):
        shifted_sets(SliceSet(few.pixels, few.labels, (lambda: air,) * 6), SPEC, seed=0)


def test_slices_without_stored_pixels_are_not_shifted(few: SliceSet) -> None:
    with pytest.raises(ConfigError, match="without their stored pixels"):
        shifted_sets(SliceSet(few.pixels, few.labels), SPEC, seed=0)


def test_padding_becomes_air() -> None:
    hu = phantom()
    stored = hu.astype(np.int16)
    stored[:8] = -2000
    encoding = PixelEncoding(padding=(-2000, -2000))
    pixels, after = shifted((stored.view(np.uint16), encoding), BY_NAME["HU +10"], SPEC, seed=(0,))
    assert set(after.values(pixels)[:8].ravel().tolist()) == {-990}
    assert partial(after.values, pixels)().dtype == np.int16

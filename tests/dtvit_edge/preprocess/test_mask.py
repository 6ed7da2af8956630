from __future__ import annotations

import numpy as np
from scipy import ndimage

from dtvit_edge.preprocess.mask import fill_holes, head_mask, largest_component, structuring_element
from dtvit_edge.spec import PreprocessSpec
from tests.support.preprocess_reference import reference_mask

SPEC = PreprocessSpec()


def test_the_disk_has_49_pixels_and_no_librarys_shape() -> None:
    disk = structuring_element(SPEC.disk_half_widths)
    dy, dx = np.mgrid[-4:5, -4:5]
    np.testing.assert_array_equal(disk, dx**2 + dy**2 <= 16)
    assert disk.sum() == 49


def test_300_random_images_match_the_reference() -> None:
    rng = np.random.default_rng(3)
    kept = 0
    for _ in range(300):
        rows, columns = rng.integers(32, 160, 2)
        noise = ndimage.gaussian_filter(rng.normal(size=(rows, columns)), rng.uniform(0.5, 6))
        image = np.clip(noise / noise.std() * 40 + rng.uniform(-20, 60), 0, 255).astype(np.uint8)
        mask = head_mask(image, SPEC)
        np.testing.assert_array_equal(mask, reference_mask(image, SPEC))
        kept += bool(mask.any())
    assert kept > 100


def test_filling_holes_matches_scipy_on_speckle() -> None:
    rng = np.random.default_rng(4)
    for density in np.linspace(0.1, 0.9, 60):
        binary = (rng.random((90, 110)) < density).astype(np.uint8)
        np.testing.assert_array_equal(fill_holes(binary), ndimage.binary_fill_holes(binary))


def test_of_equal_components_the_first_in_raster_order_wins() -> None:
    """OpenCV numbers components by blocks of two rows: its lowest label is not always the first pixel's."""
    rng = np.random.default_rng(8)
    for _ in range(200):
        binary = np.zeros((40, 40), dtype=np.uint8)
        for _ in range(12):
            y, x = rng.integers(0, 38, 2)
            if not binary[max(y - 1, 0) : y + 4, max(x - 1, 0) : x + 4].any():
                binary[y : y + 2, x : x + 2] = 1
        labels, _ = ndimage.label(binary, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())[1:]
        best = np.flatnonzero(areas == areas.max()) + 1
        first = min(best, key=lambda b: int(np.argmax(labels.ravel() == b)))
        np.testing.assert_array_equal(largest_component(binary), labels == first)


def test_more_components_than_16_bits_hold() -> None:
    binary = np.zeros((1024, 1024), dtype=np.uint8)
    binary[::2, ::2] = 1
    binary[500:503, 500:503] = 1
    largest = largest_component(binary)
    assert largest is not None
    assert largest.sum() == _area_at(binary, 501, 501)


def _area_at(binary: np.ndarray, row: int, column: int) -> int:
    labels, _ = ndimage.label(binary, np.ones((3, 3)))
    return int((labels == labels[row, column]).sum())


def test_nothing_left_is_an_empty_mask() -> None:
    assert not head_mask(np.zeros((64, 64), dtype=np.uint8), SPEC).any()
    assert largest_component(np.zeros((8, 8), dtype=np.uint8)) is None

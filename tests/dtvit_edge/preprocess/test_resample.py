from __future__ import annotations

import numpy as np
import pytest

from dtvit_edge.preprocess.opencv import resample
from dtvit_edge.preprocess.resample import (
    crop_offset,
    filter_weights,
    resample_plan,
    resized_shape,
)
from dtvit_edge.spec import PreprocessSpec
from tests.support.preprocess_reference import reference_resize, torchvision_resize

SPEC = PreprocessSpec()


def test_seventy_sizes_are_bit_equal_to_pillow() -> None:
    rng = np.random.default_rng(7)
    corners = [(32, 32), (32, 1024), (1024, 32), (1024, 1024), (255, 257), (256, 256), (257, 256), (512, 512)]
    for rows, columns in corners + [tuple(rng.integers(32, 1025, 2).tolist()) for _ in range(62)]:
        image = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
        image[rng.random((rows, columns)) < 0.2] = 255
        np.testing.assert_array_equal(
            resample(image, resample_plan(rows, columns, SPEC)),
            reference_resize(image, SPEC),
            err_msg=f"{rows}x{columns}",
        )


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(512, 512), (512, 630), (630, 512), (256, 256), (768, 768), (1024, 1024), (320, 400)],
)
def test_ct_matrices_are_bit_equal_to_torchvision(rows: int, columns: int) -> None:
    image = np.random.default_rng(9).integers(0, 256, (rows, columns), dtype=np.uint8)
    np.testing.assert_array_equal(resample(image, resample_plan(rows, columns, SPEC)), torchvision_resize(image, SPEC))


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_a_flat_image_stays_flat(value: int) -> None:
    image = np.full((511, 640), value, dtype=np.uint8)
    assert (resample(image, resample_plan(511, 640, SPEC)) == value).all()


def test_sizes_and_offsets_are_torchvisions() -> None:
    assert resized_shape(512, 630, 256) == (256, 315)
    assert crop_offset(315, 224) == 46  # 45.5, half to even
    assert crop_offset(256, 224) == 16
    assert crop_offset(257, 224) == 16  # 16.5, half to even


def test_weights_sum_to_one_within_rounding() -> None:
    for source, target in ((512, 256), (37, 256), (1024, 256), (999, 256)):
        total = filter_weights(source, target).taps.sum(axis=1)
        assert np.abs(total - (1 << 22)).max() <= 8, (source, target)

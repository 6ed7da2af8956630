"""The CPU path against the dull reference, bit for bit, with its library where that is built and with OpenCV."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pydicom
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import LOCATION_LABELS, PixelEncoding, PreprocessSpec
from tests.support.data import real
from tests.support.preprocess_cases import SIGNED, THREE, WINDOWED, Case, cases, store
from tests.support.preprocess_reference import reference_bytes


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in cases()])
def test_every_reference_case_is_bit_equal(case: Case) -> None:
    if case.spec.resize is None and min(case.stored.shape) < case.spec.crop:
        pytest.skip("refused below the crop; tested on its own")
    expected = reference_bytes(case.stored, case.encoding, case.spec)
    for native in (True, False):
        prepared = CpuPreprocessor(case.spec, native=native)(case.stored, case.encoding)
        assert prepared.pixels.dtype == np.uint8
        assert prepared.pixels.flags.c_contiguous
        np.testing.assert_array_equal(prepared.pixels, expected, err_msg=f"native: {native}")


def test_cases_reach_both_ends_of_every_branch() -> None:
    prepared = [(c, CpuPreprocessor(c.spec)(c.stored, c.encoding)) for c in cases()]
    assert any(not p.has_head for _, p in prepared), "no case with an empty mask"
    assert sum(p.pixels.any() for _, p in prepared) > 40
    assert {c.spec.channels for c, _ in prepared} == {1, 2, 3}
    phantom = next(p for c, p in prepared if c.name == "phantom-2-signed")
    assert 0.3 < phantom.brain_share < 1.0


def test_encodings_of_one_image_give_the_same_bytes() -> None:
    by_name = {c.name: CpuPreprocessor(c.spec)(c.stored, c.encoding).pixels for c in cases() if "phantom" in c.name}
    for name in ("unsigned", "12-bit-junk-above", "12-bit-signed-junk", "12-bit-high-junk-below"):
        np.testing.assert_array_equal(by_name[f"phantom-{name}"], by_name["phantom-2-signed"], err_msg=name)


def test_real_study_is_bit_equal() -> None:
    files = sorted(real("studies", "ge-head").glob("*.dcm"))
    assert len(files) == 28
    encoding = PixelEncoding(padding=(-1500, -1500))
    for spec in (PreprocessSpec(), THREE):
        for file in files if spec.channels == 1 else files[::7]:
            stored = pydicom.dcmread(file).pixel_array.view(np.uint16)
            expected = reference_bytes(stored, encoding, spec)
            for native in (True, False):
                prepared = CpuPreprocessor(spec, native=native)(stored, encoding)
                np.testing.assert_array_equal(prepared.pixels, expected, err_msg=file.name)


def test_200_real_windowed_slices_are_bit_equal() -> None:
    files = sorted(real("phe-sich", "images").glob("*.jpg"))
    prepare, with_opencv = (CpuPreprocessor(PreprocessSpec(), native=native) for native in (True, False))
    chosen = files[:: len(files) // 200][:200]
    assert len(chosen) == 200
    for file in chosen:
        stored = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
        prepared, opencvs = prepare(stored, WINDOWED), with_opencv(stored, WINDOWED)
        np.testing.assert_array_equal(
            prepared.pixels, reference_bytes(stored, WINDOWED, prepare.spec), err_msg=file.name
        )
        np.testing.assert_array_equal(prepared.pixels, opencvs.pixels, err_msg=file.name)
        assert (prepared.head_pixels, prepared.brain_share) == (opencvs.head_pixels, opencvs.brain_share)


def test_no_positive_real_slice_is_skipped_or_cut() -> None:
    """Every annotated haemorrhage (720): brain in view, and at most 5 % of its bright pixels outside the mask."""
    from dtvit_edge.preprocess.mask import head_mask

    folder = real("phe-sich", "labels.csv").parent
    with (folder / "labels.csv").open(newline="") as file:
        positives = [row for row in csv.DictReader(file) if row["ich"] == "1"]
    assert len(positives) == 720
    spec = PreprocessSpec()
    prepare = CpuPreprocessor(spec)
    lowest = 1.0
    for row in positives:
        name = row["file"].rsplit("/", 1)[-1]
        image = cv2.imread(str(folder / "images" / name), cv2.IMREAD_GRAYSCALE)
        prepared = prepare(image.astype(np.uint16), WINDOWED)
        assert prepared.brain_share >= spec.min_brain_share, name
        lowest = min(lowest, prepared.brain_share)
        x0, y0, x1, y1 = (round(float(v)) for v in row["box_xyxy"].strip("[]() ").replace(",", " ").split())
        bright = image[y0 : y1 + 1, x0 : x1 + 1] > 150
        kept = head_mask(image, spec)[y0 : y1 + 1, x0 : x1 + 1] > 0
        assert (bright & ~kept).sum() <= 0.05 * max(bright.sum(), 1), name
    assert lowest > 4 * spec.min_brain_share, "the skip threshold is no longer conservative"


def test_no_positive_phantom_is_skipped_or_cut() -> None:
    """Every positive slice of 24 studies, the lowest cerebellar and the highest lobar ones among them."""
    from dtvit_edge.phantom import plan_study, render_slice
    from dtvit_edge.preprocess.mask import head_mask
    from dtvit_edge.preprocess.rescale_table import rescale_table

    spec = PreprocessSpec()
    prepare, table = CpuPreprocessor(spec), rescale_table(SIGNED, spec)[0]
    seen = 0
    for seed in range(100, 108):
        for location in LOCATION_LABELS:
            plan = plan_study(seed, location)
            for index in plan.positive:
                rendered = render_slice(plan, index)
                stored = np.ascontiguousarray(rendered.hu).view(np.uint16)
                assert prepare(stored, SIGNED).brain_share > 2 * spec.min_brain_share, (seed, location, index)
                mask = head_mask(table[stored], spec) > 0
                lost = (rendered.haemorrhage & ~mask).sum()
                assert lost <= 0.05 * rendered.haemorrhage.sum(), (seed, location, index)
                seen += 1
    assert seen >= 48


def test_an_empty_slice_has_no_head_and_zero_bytes() -> None:
    prepared = CpuPreprocessor(PreprocessSpec())(store(np.full((128, 128), -1000.0), SIGNED), SIGNED)
    assert not prepared.has_head
    assert prepared.brain_share == 0.0
    assert not prepared.pixels.any()


def test_a_matrix_below_the_crop_is_refused_without_resize() -> None:
    stored = store(np.full((223, 512), 40.0), SIGNED)
    with pytest.raises(ConfigError, match="smaller than the crop of 224"):
        CpuPreprocessor(PreprocessSpec(resize=None))(stored, SIGNED)


def test_windowed_bytes_are_refused_for_three_windows() -> None:
    with pytest.raises(ConfigError, match="one window only"):
        CpuPreprocessor(THREE)(np.zeros((64, 64), dtype=np.uint16), WINDOWED)

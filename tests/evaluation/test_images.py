from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import render_study
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import WINDOWED_8_BIT, PixelEncoding, PreprocessSpec
from evaluation.images import load_images, prepare_image
from evaluation.labels import LabelledSlice, read_labels
from tests.support.dicom_files import enhanced, save
from tests.support.preprocess_cases import SIZES, store
from training import augment

SPEC = PreprocessSpec()


@pytest.mark.parametrize(("rows", "columns"), [s for s in SIZES if min(s) >= 64])
def test_without_augmentation_the_crop_gives_the_runtimes_bytes(rows: int, columns: int) -> None:
    hu = cv2.resize(render_study(3, "deep", indices=(12,)).slices[0].hu, (columns, rows))
    stored = store(hu, PixelEncoding())
    prepare = CpuPreprocessor(SPEC)
    whole = prepare(stored, PixelEncoding(), crop=False).pixels
    assert min(whole.shape[1:]) == 256
    cropped = augment.evaluation(SPEC)(torch.from_numpy(whole))
    np.testing.assert_array_equal(cropped.numpy(), prepare(stored, PixelEncoding()).pixels)


def test_dicom_and_picture_of_one_slice_agree(tmp_path: Path) -> None:
    dicom = save(tmp_path / "a.dcm")
    from_dicom = prepare_image(dicom, SPEC)
    hu = render_study(3, "deep", indices=(12,)).slices[0].hu
    windowed = np.floor(255 * np.clip((hu.astype(float) - 40) / 80 + 0.5, 0, 1) + 0.5).astype(np.uint8)
    for name in ("a.png", "colour.png"):
        cv2.imwrite(str(tmp_path / name), windowed if name == "a.png" else cv2.cvtColor(windowed, cv2.COLOR_GRAY2BGR))
        np.testing.assert_array_equal(prepare_image(tmp_path / name, SPEC).pixels, from_dicom.pixels)
    direct = CpuPreprocessor(SPEC)(windowed.astype(np.uint16), WINDOWED_8_BIT, crop=False)
    np.testing.assert_array_equal(direct.pixels, from_dicom.pixels)


def test_workers_change_nothing(phantom_folder: Path) -> None:
    slices = read_labels(phantom_folder / "truth.csv")[:20]
    steps: list[int] = []
    alone = load_images(slices, SPEC, workers=1, step=steps.append)
    many = load_images(slices, SPEC, workers=2)
    assert sum(steps) == 20
    for a, b in zip(alone, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_no_single_slice_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    save(tmp_path / "mr.dcm", Modality="MR")
    frames = np.zeros((2, 64, 64), dtype=np.uint16)
    save(tmp_path / "multi.dcm", enhanced(frames, shared_rescale=True, intercepts=[-1024.0] * 2))
    for name, said in (("a.png", "8-bit image"), ("mr.dcm", "not_ct"), ("multi.dcm", "2 frames")):
        with pytest.raises(ConfigError, match=said) as caught:
            load_images([LabelledSlice(tmp_path / name, name, "P", True, None)], SPEC)
        assert name in str(caught.value)


def test_augmentation_turns_sharpens_and_is_seeded() -> None:
    image = torch.from_numpy(CpuPreprocessor(SPEC)(
        store(render_study(3, "deep", indices=(12,)).slices[0].hu, PixelEncoding()), PixelEncoding(), crop=False
    ).pixels)  # fmt: skip
    transform = augment.training(SPEC)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return transform(image)

    assert draw(1).shape == (1, 224, 224)
    assert draw(1).dtype == torch.uint8
    assert torch.equal(draw(1), draw(1))
    different = [draw(seed) for seed in range(8)]
    assert len({bytes(d.numpy()) for d in different}) == 8
    plain = augment.evaluation(SPEC)(image)
    assert all((d.float() - plain.float()).abs().mean() < 40 for d in different), "the same head, turned a little"

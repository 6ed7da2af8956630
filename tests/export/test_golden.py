"""Golden slices: twelve different ones, the same each time, and nobody's pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from dtvit_edge.bundle import GOLDEN_LOGITS, GOLDEN_PIXELS
from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec
from export import golden
from export.golden import golden_files, golden_pixels, reference_logits
from export.model import normalise
from export.untrained import untrained_model
from tests.support.encoders import SMALL_VIT, THREE_WINDOWS


def test_twelve_slices_all_different_all_with_a_head() -> None:
    pixels = golden_pixels(PreprocessSpec())
    assert pixels.shape == (12, 1, 224, 224) and pixels.dtype == np.uint8
    assert len({row.tobytes() for row in pixels}) == 12
    assert all((row > 0).mean() > 0.2 for row in pixels)
    np.testing.assert_array_equal(pixels, golden_pixels(PreprocessSpec()))


def test_three_windows_give_three_channels() -> None:
    pixels = golden_pixels(THREE_WINDOWS)
    assert pixels.shape == (12, 3, 224, 224)
    assert not np.array_equal(pixels[:, 0], pixels[:, 1])
    np.testing.assert_array_equal(pixels[:, :1], golden_pixels(PreprocessSpec()))


def test_spec_that_finds_no_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(golden.CpuPreprocessor):
        def __call__(self, stored, encoding):  # type: ignore[no-untyped-def]
            return super().__call__(np.zeros_like(stored) - 1000, encoding)

    monkeypatch.setattr(golden, "CpuPreprocessor", Blind)
    with pytest.raises(ConfigError, match="finds no head in phantom 0"):
        golden_pixels(PreprocessSpec())


def test_reference_is_the_models_own_forward() -> None:
    model, spec = untrained_model(SMALL_VIT), PreprocessSpec()
    pixels = golden_pixels(spec)[:3]
    with torch.no_grad():
        expected = model(normalise(torch.from_numpy(pixels), spec))
    logits = reference_logits(model, pixels, spec)
    for name, values in zip(OUTPUT_NAMES, expected, strict=True):
        assert logits[name].dtype == np.float32
        np.testing.assert_allclose(logits[name], values.numpy(), atol=1e-5)


def test_files_are_plain_arrays() -> None:
    pixels = np.zeros((2, 1, 224, 224), np.uint8)
    logits = {"ich_logits": np.ones((2, 2), np.float32), "location_logits": np.ones((2, 3), np.float32)}
    records, files = golden_files(pixels, logits)
    assert set(records) == set(files) == {GOLDEN_PIXELS, *GOLDEN_LOGITS.values()}
    loaded = np.load(io.BytesIO(files[GOLDEN_LOGITS["ich_logits"]]), allow_pickle=False)
    np.testing.assert_array_equal(loaded, logits["ich_logits"])

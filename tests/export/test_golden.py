"""Golden slices: twelve different ones, the same each time, and nobody's pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from dtvit_edge.bundle import GOLDEN_FILES, GOLDEN_LOGITS, Golden
from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import OUTPUT_NAMES, PixelEncoding, PreprocessSpec
from export import golden
from export.golden import CUTS, ENCODINGS, golden_slices, reference_logits, rounding_of
from export.model import normalise
from export.untrained import untrained_model
from tests.support.encoders import THREE_WINDOWS
from tests.support.small_bundle import SMALL_VIT


def golden_pixels(spec: PreprocessSpec) -> np.ndarray:
    return golden_slices(spec)[2]


def test_twelve_slices_all_different_all_with_a_head() -> None:
    pixels = golden_pixels(PreprocessSpec())
    assert pixels.shape == (12, 1, 224, 224) and pixels.dtype == np.uint8
    assert len({row.tobytes() for row in pixels}) == 12
    assert all((row > 0).mean() > 0.2 for row in pixels)
    golden._phantom_slices.cache_clear()
    np.testing.assert_array_equal(pixels, golden_pixels(PreprocessSpec()))


def test_three_windows_give_three_channels() -> None:
    pixels = golden_pixels(THREE_WINDOWS)
    assert pixels.shape == (12, 3, 224, 224)
    assert not np.array_equal(pixels[:, 0], pixels[:, 1])
    np.testing.assert_array_equal(pixels[:, :1], golden_pixels(PreprocessSpec()))


def test_spec_that_finds_no_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(golden.CpuPreprocessor):
        def __call__(self, stored, encoding, **options):  # type: ignore[no-untyped-def]
            return super().__call__(np.zeros_like(stored), PixelEncoding(intercept=-1000.0))

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
        assert logits[name].dtype == np.float64
        np.testing.assert_allclose(logits[name], values.numpy(), atol=1e-5)


def test_stored_pixels_are_in_every_encoding_and_shape_and_give_the_bytes() -> None:
    spec = PreprocessSpec()
    stored, encodings, pixels = golden_slices(spec)
    assert set(encodings) == set(ENCODINGS) and {array.shape for array in stored} == set(CUTS)
    for array, encoding, expected in zip(stored, encodings, pixels, strict=True):
        np.testing.assert_array_equal(CpuPreprocessor(spec)(array, encoding).pixels, expected)


def test_reference_is_in_float64_and_leaves_the_model_in_float32() -> None:
    model, spec = untrained_model(SMALL_VIT), PreprocessSpec()
    stored, encodings, pixels = golden_slices(spec)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    golden = Golden(tuple(stored), tuple(encodings), pixels, reference_logits(model, pixels, spec))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert 0 < rounding_of(model, golden, spec) < 1e-5


def test_files_are_plain_arrays() -> None:
    pixels = np.zeros((2, 1, 224, 224), np.uint8)
    logits = {"ich_logits": np.ones((2, 2)), "location_logits": np.ones((2, 3))}
    stored = (np.zeros((2, 3), np.uint16), np.ones((4, 2), np.uint16))
    files = Golden(stored, (PixelEncoding(),) * 2, pixels, logits).to_files()
    assert set(files) == set(GOLDEN_FILES)
    loaded = np.load(io.BytesIO(files[GOLDEN_LOGITS["ich_logits"]]), allow_pickle=False)
    np.testing.assert_array_equal(loaded, logits["ich_logits"])

"""Prepared bytes: what makes them of Hounsfield units, and what the model says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.backends.onnxruntime import OnnxRuntimeBackend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.spec import OUTPUT_NAMES
from tests.support.open_models import opened, volume_of


def test_the_golden_slices_are_answered_in_batches_of_any_number(tiny_bundle: Bundle) -> None:
    golden = tiny_bundle.golden()
    pixels = np.tile(golden.pixels, (5, 1, 1, 1))
    with opened(tiny_bundle, batch=4) as model:
        for count in (1, 3, 4, 5, len(pixels)):
            found = model.predict(pixels[:count])
            assert len(found) == count
            for name in OUTPUT_NAMES:
                expected = np.tile(golden.logits[name], (5, 1))[:count]
                np.testing.assert_allclose(getattr(found, name), expected, atol=1e-4)
        assert found.location_probabilities is not None
        np.testing.assert_allclose(found.location_probabilities.sum(axis=1), 1)
        odd = np.asfortranarray(pixels)[::-2]
        np.testing.assert_array_equal(model.predict(odd).ich_probability, found.ich_probability[::-2])
        nothing = model.predict(pixels[:0])
        assert nothing.ich_probability.shape == (0,) and nothing.location_logits.shape == (0, 3)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((1, 1, 224, 224), np.float32), np.zeros((1, 224, 224), np.uint8), np.zeros((1, 3, 224, 224), np.uint8),
     np.zeros((1, 1, 64, 64), np.uint8), np.uint8(3), None, "pixels"],
    ids=["float", "three dimensions", "channels", "side", "number", "none", "text"],
)  # fmt: skip
def test_other_bytes_are_refused_in_a_sentence(tiny_bundle: Bundle, pixels: Any) -> None:
    with opened(tiny_bundle) as model:
        with pytest.raises(ConfigError, match=r"the model takes slices of \(1, 224, 224\) as uint8"):
            model.predict(pixels)
        assert len(model.predict(tiny_bundle.golden().pixels)) > 0  # and goes on


def test_a_model_without_a_location_names_none(tiny_bundle_without_location: Bundle) -> None:
    with opened(tiny_bundle_without_location) as model:
        assert model.predict(tiny_bundle_without_location.golden().pixels).location_probabilities is None


def test_an_answer_that_is_not_finite_is_no_probability(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    infer = OnnxRuntimeBackend.infer

    def broken(self: OnnxRuntimeBackend, pixels: Any) -> Any:
        logits = infer(self, pixels)
        return logits | {OUTPUT_NAMES[0]: logits[OUTPUT_NAMES[0]] * np.float32("nan")}

    with opened(tiny_bundle) as model:
        monkeypatch.setattr(OnnxRuntimeBackend, "infer", broken)
        with pytest.raises(DeviceFault, match="not finite"):
            model.predict(tiny_bundle.golden().pixels)


def test_prepared_slices_are_those_that_scoring_shows_the_model(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    hu, spacing, _ = volume_of(phantom_folder / "study-0001")
    with opened(tiny_bundle, batch=4) as model:
        prepared = model.preprocess(hu)
        assert prepared.shape == (len(hu), 1, 224, 224) and prepared.dtype == np.uint8
        np.testing.assert_array_equal(model.preprocess(hu[12].astype(">i4")), prepared[12:13])
        found = model.predict(prepared).ich_probability
        rows = model.score_volume(hu, spacing).slices
    scored = [row for row in rows if row.ich_probability is not None]
    assert len(scored) > 20
    assert all(row.ich_probability == found[row.frame - 1] for row in scored)


@pytest.mark.parametrize("hu", [np.zeros(64), np.zeros((64, 8)), np.full((64, 64), np.nan)], ids=["1d", "tiny", "nan"])
def test_what_is_no_slice_is_not_prepared(tiny_bundle: Bundle, hu: Any) -> None:
    with opened(tiny_bundle) as model, pytest.raises(ConfigError):
        model.preprocess(hu)

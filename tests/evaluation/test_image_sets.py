from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PreprocessSpec
from evaluation.image_sets import FIRST_SEED, load_image_set, phantom_set, stored_pixels
from evaluation.phantoms import PhantomSet

SPEC = PreprocessSpec()


def test_a_phantom_set_is_named_by_its_size_and_first_seed() -> None:
    assert phantom_set("phantoms:12") == PhantomSet(12, FIRST_SEED)
    assert phantom_set("phantoms:12@7") == PhantomSet(12, 7)
    assert phantom_set("labels.csv") is None


@pytest.mark.parametrize("text", ["phantoms:", "phantoms:0", "phantoms:x", "phantoms:3@", "phantoms:-1"])
def test_a_name_that_is_nearly_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected phantoms:STUDIES"):
        phantom_set(text)


@pytest.mark.parametrize("kind", ["phantoms", "files"])
def test_the_stored_pixels_are_those_that_were_prepared(phantom_folder: Path, kind: str) -> None:
    text = "phantoms:1@60" if kind == "phantoms" else str(phantom_folder / "truth.csv")
    data = load_image_set(text, SPEC)
    chosen = len(data.slices) // 2
    prepared = CpuPreprocessor(SPEC)(*stored_pixels(data.slices[chosen]), crop=False)
    np.testing.assert_array_equal(prepared.pixels, data.images[chosen])


def test_a_file_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not readable"):
        load_image_set(str(tmp_path / "none.csv"), SPEC)

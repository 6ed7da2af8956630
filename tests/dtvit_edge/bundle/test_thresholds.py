from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dtvit_edge.bundle import (
    THRESHOLDS,
    Bundle,
    Threshold,
    Thresholds,
    write_thresholds,
)
from dtvit_edge.errors import BundleError, ConfigError


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy.dtvit"))


def test_thresholds_lie_beside_the_manifest_and_change_no_digest(copy: Path) -> None:
    before = Bundle.open(copy)
    assert before.thresholds == Thresholds() and before.thresholds.slice.source == "not tuned"
    tuned = Thresholds(Threshold(0.3, "tuned"), Threshold(0.4, "tuned"), 1.5, {"studies": 40})
    write_thresholds(copy, before.digest, tuned)
    after = Bundle.open(copy)
    assert (after.thresholds, after.digest) == (tuned, before.digest)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"format": NaN}', "NaN is no number"),
        ("[]", "not thresholds"),
        ('{"format": 1}', "must contain"),
        (None, "made for the manifest 000000"),
    ],
)
def test_thresholds_that_are_not_of_this_bundle_are_refused(copy: Path, content: str | None, words: str) -> None:
    if content is None:
        write_thresholds(copy, "0" * 64, Thresholds())
    else:
        (copy / THRESHOLDS).write_text(content)
    with pytest.raises(BundleError, match=words):
        Bundle.open(copy)


@pytest.mark.parametrize("value", [0.0, 1.0, -1, float("nan")])
def test_a_threshold_is_a_probability_between_0_and_1(value: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Threshold(value)

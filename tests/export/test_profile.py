"""The profile that a bundle carries: what scores and brain shares were when it was made."""

from __future__ import annotations

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import ICH_OUTPUT
from export.profile import distribution


def test_levels_are_those_of_the_probabilities_and_shares() -> None:
    wanted = np.linspace(0.01, 0.99, 99)
    logits = {ICH_OUTPUT: np.stack([np.zeros(99), np.log(wanted / (1 - wanted))], axis=1)}
    found = distribution(logits, list(wanted))
    assert found["slices"] == 99 and found["brain_share"] == found["ich_probability"]
    assert found["ich_probability"] == pytest.approx(
        {"5": 0.059, "25": 0.255, "50": 0.5, "75": 0.745, "95": 0.941}, abs=1e-4
    )
    assert "brain_share" not in distribution(logits, ())


def test_an_exported_bundle_has_that_of_its_golden_slices(small_bundle: Bundle) -> None:
    profile = small_bundle.manifest.profile
    assert profile is not None and set(profile) == {"golden"}
    golden = small_bundle.golden()
    prepare = CpuPreprocessor(small_bundle.manifest.spec)
    shares = [prepare(stored, s.encoding).brain_share for stored, s in zip(golden.stored, golden.slices, strict=True)]
    assert profile["golden"] == distribution(golden.logits, shares)

"""Seeded models without training: reproducible, and lively enough to show something."""

from __future__ import annotations

import numpy as np
import torch

from dtvit_edge.spec import PreprocessSpec
from export.golden import golden_pixels, reference_logits
from export.untrained import untrained_model


def test_same_seed_same_weights_and_another_seed_others() -> None:
    a, b, c = (untrained_model("test_vit", seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    untrained_model("test_vit")
    assert torch.equal(torch.rand(1), expected)


def test_probabilities_differ_between_slices() -> None:
    spec = PreprocessSpec()
    logits = reference_logits(untrained_model(), golden_pixels(spec), spec)["ich_logits"]
    probability = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert len(np.unique(probability.round(4))) == 12
    assert np.ptp(probability) > 0.01

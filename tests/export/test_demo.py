"""The demo checkpoint: seeded, untrained, and lively enough to show something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner

from dtvit_edge.spec import PreprocessSpec
from export.checkpoint import load_checkpoint
from export.demo import demo_checkpoint, demo_model, main
from export.golden import golden_pixels, reference_logits


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        demo_checkpoint(path, "test_vit", seed)
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b != c
    assert load_checkpoint(paths[0]).training == "untrained"


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    demo_model("test_vit")
    assert torch.equal(torch.rand(1), expected)


def test_probabilities_differ_between_slices() -> None:
    spec = PreprocessSpec()
    logits = reference_logits(demo_model(), golden_pixels(spec), spec)["ich_logits"]
    probability = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert len(np.unique(probability.round(4))) == 12
    assert np.ptp(probability) > 0.01


def test_command_writes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "demo.safetensors"
    done = CliRunner().invoke(main, [str(path), "--encoder", "test_vit"])
    assert done.exit_code == 0 and done.output.strip() == str(path) and path.is_file()

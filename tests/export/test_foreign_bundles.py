"""From a foreign checkpoint to a bundle, through ONNX: the file computes what the user's own module computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from export.model import normalise
from tests.support.foreign_models import Dual, answers, mlp, resnet, seeded, timm_vit, torchvision_vit

TORCHVISION = "[encoder]\nnum_heads = 3\n"
SILU = """[encoder]
name = "test_vit"
[heads]
activation = "silu"
[preprocess]
mean = [0.3]
std = [0.25]
"""
# A foreign module, its import.toml and the shape of its input. Marked `real` is what repeats others at greater cost.
CASES = [
    pytest.param(
        lambda: torchvision_vit(image_size=96, num_classes=4),
        TORCHVISION,
        (3, 96, 96),
        id="torchvision ViT of four, at 96",
    ),
    pytest.param(
        lambda: Dual(timm_vit(img_size=64, in_chans=1), mlp(64, 1, nn.SiLU()), mlp(64, 3, nn.SiLU())),
        SILU,
        (1, 64, 64),
        id="timm ViT of one channel with one logit",
    ),
    pytest.param(
        lambda: torchvision_vit(image_size=96, num_classes=1),
        TORCHVISION,
        (3, 96, 96),
        marks=pytest.mark.real,
        id="torchvision ViT with one logit alone",
    ),
    pytest.param(
        lambda: resnet(nn.Linear(512, 4)),
        "[encoder]\nsize = 64\n",
        (3, 64, 64),
        marks=pytest.mark.real,
        id="ResNet of four classes",
    ),
]


@pytest.mark.parametrize(("make", "toml", "shape"), CASES)
def test_foreign_checkpoint_becomes_a_proved_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[], nn.Module], toml: str, shape: tuple[int, ...]
) -> None:
    module = seeded(make())
    torch.save({"state_dict": module.state_dict()}, tmp_path / "a.pth.tar")
    (tmp_path / "import.toml").write_text(toml)
    tensors = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    np.savez(tmp_path / "e.npz", tensors=tensors, ich_logits=answers(module, tensors)[0])
    arguments = ["export", str(tmp_path / "a.pth.tar"), "-o", str(tmp_path / "a.dtvit"), "--training", "synthetic"]
    assert main([*arguments, "--expect", str(tmp_path / "e.npz")]) == 0
    streams = capsys.readouterr()
    assert "assumed" in streams.err and "proved    against your own outputs" in streams.out
    bundle = Bundle.open(tmp_path / "a.dtvit")
    assert bundle.manifest.imported is not None and bundle.manifest.imported["assumed"]
    assert bundle.manifest.proof is not None and bundle.manifest.proof["images"] == 4
    spec, golden = bundle.manifest.spec, bundle.golden()
    x = normalise(torch.from_numpy(golden.pixels), spec)
    ich, location = answers(module, x.expand(-1, spec.encoder_channels, -1, -1))
    np.testing.assert_allclose(golden.logits["ich_logits"], ich, rtol=0, atol=1e-4)
    logits = open_session(bundle.model_bytes("fp32")).run(None, {"pixels": golden.pixels})
    tolerance = bundle.manifest.tolerances["fp32"] + 1e-5  # normalised in float32 above
    np.testing.assert_allclose(logits[0], ich, rtol=0, atol=tolerance)
    if location is None:
        assert bundle.manifest.untrained_heads == ("location",)
    else:
        np.testing.assert_allclose(logits[1], location, rtol=0, atol=tolerance)

"""From a foreign checkpoint to a bundle, through ONNX: the file computes what the user's own module computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from export.model import normalise
from export.onnx_graph import open_session
from tests.support.foreign_models import Dual, answers, mlp, resnet, seeded, timm_vit, torchvision_vit

CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ResNet of four classes": (lambda: resnet(nn.Linear(512, 4)), "[encoder]\nsize = 64\n"),
    "torchvision ViT with one logit, at 96": (
        lambda: torchvision_vit(image_size=96, num_classes=1),
        "[encoder]\nnum_heads = 3\n",
    ),
    "timm ViT of one channel": (
        lambda: Dual(timm_vit(img_size=64, in_chans=1), mlp(64, 2, nn.SiLU()), mlp(64, 3, nn.SiLU())),
        '[encoder]\nname = "test_vit"\n[heads]\nactivation = "silu"\n[preprocess]\nmean = [0.3]\nstd = [0.25]\n',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_foreign_checkpoint_becomes_a_proved_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, toml = CASES[name]
    module = seeded(make())
    torch.save({"state_dict": module.state_dict()}, tmp_path / "a.pth.tar")
    (tmp_path / "import.toml").write_text(toml)
    arguments = ["export", str(tmp_path / "a.pth.tar"), "-o", str(tmp_path / "a.dtvit"), "--training", "synthetic"]
    assert main([*arguments, "--json"]) == 0
    streams = capsys.readouterr()
    assert "assumed" in streams.err and json.loads(streams.out)["imported"]["assumed"]
    bundle = Bundle.open(tmp_path / "a.dtvit")
    spec, golden = bundle.manifest.spec, bundle.golden()
    x = normalise(torch.from_numpy(golden.pixels), spec)
    ich, location = answers(module, x.expand(-1, spec.encoder_channels, -1, -1))
    np.testing.assert_allclose(golden.logits["ich_logits"], ich, rtol=0, atol=1e-4)
    found = open_session(bundle.model_bytes("fp32")).run(None, {"pixels": golden.pixels})
    tolerance = bundle.manifest.tolerances["fp32"] + 1e-5  # normalised in float32 above
    np.testing.assert_allclose(found[0], ich, rtol=0, atol=tolerance)
    if location is None:
        assert bundle.manifest.untrained_heads == ("location",)
    else:
        np.testing.assert_allclose(found[1], location, rtol=0, atol=tolerance)
    np.savez(tmp_path / "e.npz", tensors=x[:4].expand(-1, spec.encoder_channels, -1, -1), ich_logits=ich[:4])
    assert main([*arguments, "--overwrite", "--expect", str(tmp_path / "e.npz")]) == 0
    assert "proved    against your own outputs" in capsys.readouterr().out
    assert Bundle.open(tmp_path / "a.dtvit").manifest.proof["images"] == 4

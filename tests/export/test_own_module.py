"""A user's own module is run, exported as it is, and compared with itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import PreprocessSpec
from export.importing import ImportOptions, import_model
from export.model import normalise
from export.onnx_graph import export_fp32
from export.rewrites import NORMALISATION, rewrite

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, twice=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.twice = nn.Conv2d(3, 8, 8, stride=8), twice
        self.a, self.b = nn.Linear(8, 2), nn.Linear(8, 3)
    def forward(self, x):
        h = torch.nn.functional.mish(self.conv(x)).mean((2, 3))
        if self.twice:
            h = h + x.mean((1, 2, 3), keepdim=False)[:, None]
        return {"bleeding": self.a(h), "where": self.b(h)} if self.twice else (self.a(h), self.b(h))

def plain():
    return Net()

def loaded(path):
    net = Net()
    net.load_state_dict(torch.load(path, weights_only=True))
    return net

def twice():
    return Net(True)

def broken():
    raise RuntimeError("no weights here")

def number():
    return 3
"""
SIDE = "[preprocess]\nsize = 64\n"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    scope: dict[str, object] = {}
    exec(CODE, scope)
    torch.save(scope["plain"]().state_dict(), tmp_path / "a.pt")  # type: ignore[operator]
    (tmp_path / "import.toml").write_text(SIDE)
    return tmp_path / "a.pt"


def options(weights: Path, factory: str) -> ImportOptions:
    return ImportOptions(model=f"{weights.parent / 'net.py'}:{factory}", training="synthetic")


@pytest.mark.parametrize(
    ("factory", "toml", "folded"),
    [
        ("plain", SIDE, True),
        ("loaded", SIDE, True),
        ("twice", SIDE + '[heads.ich]\noutput = "bleeding"\n[heads.location]\noutput = "where"\n', False),
    ],
)
def test_module_is_exported_as_it_is(weights: Path, factory: str, toml: str, folded: bool) -> None:
    """Normalisation is folded only where the first convolution alone reads the input."""
    (weights.parent / "import.toml").write_text(toml)
    imported = import_model(weights, options(weights, factory))
    assert imported.own_module and imported.spec == PreprocessSpec(crop=64, resize=73)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), np.uint8)
    module = imported.model.encoder.module
    x = normalise(torch.from_numpy(pixels), imported.spec).expand(-1, 3, -1, -1)
    with torch.no_grad():
        result = module(x)
    ich, location = result.values() if isinstance(result, dict) else result
    rewritten = rewrite(imported.model, imported.spec, own_module=True)
    assert rewritten.report[NORMALISATION]["applied"] == folded
    found = open_session(export_fp32(rewritten.module, 1, 64)).run(None, {"pixels": pixels})
    np.testing.assert_allclose(found[0], ich, atol=1e-5)
    np.testing.assert_allclose(found[1], location, atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("twice", ConfigError, "say which outputs count .* a mapping with bleeding, where"),
        ("broken", CheckpointError, "RuntimeError: no weights here"),
        ("number", CheckpointError, "gives a int, expected a torch.nn.Module"),
        ("absent", ConfigError, "has no function absent"),
    ],
)
def test_what_is_no_module_is_refused_in_words(
    weights: Path, factory: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        import_model(weights, options(weights, factory))


def test_module_of_another_size_says_where_the_size_is_given(weights: Path) -> None:
    (weights.parent / "import.toml").write_text("[preprocess]\nsize = 32\n[heads.ich]\noutput = 7\n")
    with pytest.raises(ConfigError, match="the module returns no output 7: it returns 2 values"):
        import_model(weights, options(weights, "plain"))

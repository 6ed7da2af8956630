"""PyTorch's three ways; on a CPU two of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu_check import pytorch
from dtvit_edge.spec import PreprocessSpec
from tests.support.data import ROOT


def test_pytorchs_ways_run_and_without_cuda_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch.torch, "compile", lambda model: model)  # a minute of a C++ compiler
    weights = ROOT / "export" / "demo" / "demo.safetensors"
    samples = pytorch.peers_ms(weights, np.zeros((2, 1, 224, 224), np.uint8), PreprocessSpec(), 2, device="cpu")
    assert {name: len(values) for name, values in samples.items()} == {"eager": 2, "torch.compile": 2}
    if not pytorch.torch.cuda.is_available():
        assert "no CUDA device" in pytorch.absent()

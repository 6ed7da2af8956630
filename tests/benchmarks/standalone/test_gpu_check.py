"""The GPU's check on the stand-in GPU, and what it says where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.standalone import gpu_check, gpu_pytorch
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import BuildError
from dtvit_edge.preprocess import compiled
from dtvit_edge.spec import PreprocessSpec
from evaluation import records
from tests.support.cuda.fixtures import install_engine
from tests.support.data import ROOT


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))


@pytest.fixture
def a_gpu(make_gpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make_gpu()
    monkeypatch.setattr(compiled, "find_compilers", lambda: ["a compiler"])


def check(bundle: Bundle, folder: Path, out: Path) -> Any:
    arguments = [str(bundle.path), str(folder), "-o", str(out), "--precision", "fp32", "--rounds", "10"]
    return CliRunner().invoke(gpu_check.main, [*arguments, "--record", str(out / "gpu.jsonl")])


def test_without_a_gpu_it_says_what_is_missing(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "find_compilers", list)
    result = check(bundle, phantom_folder, tmp_path)
    assert result.exit_code == 2
    assert "tensorrt: " in result.stderr and "not installed" in result.stderr and "nor NVRTC" in result.stderr


def test_it_compares_times_and_records(
    bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    a_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_check, "build_engine", lambda opened, options: install_engine(opened, 8))
    result = check(bundle, phantom_folder, tmp_path)
    assert result.exit_code == 0, result.output
    by_what = {record.what: record for record in records.read(tmp_path / "gpu.jsonl")}
    preprocessing = by_what[gpu_check.WHAT_PREPROCESS].summary
    assert preprocessing["slices"] > 30 and preprocessing["slices that differ"] == 0
    decisions = by_what[gpu_check.WHAT_DECISIONS].summary
    assert decisions["flips"] == decisions["statuses that differ"] == decisions["largest difference"] == 0
    assert len(by_what[gpu_check.WHAT_ENGINE].samples["executor 8"]) == 10


def test_an_engine_that_is_not_built_is_a_negative_verdict(
    bundle: Bundle,
    phantom_folder: Path,
    tmp_path: Path,
    a_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: Any) -> None:
        raise BuildError("no")

    monkeypatch.setattr(gpu_check, "build_engine", refuse)
    result = check(bundle, phantom_folder, tmp_path)
    assert result.exit_code == 1
    assert "fp32: no engine: no" in result.stderr


def test_pytorchs_ways_run_and_without_cuda_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_pytorch.torch, "compile", lambda model: model)  # a minute of a C++ compiler
    weights = ROOT / "export" / "demo" / "demo.safetensors"
    pixels = np.zeros((2, 1, 224, 224), np.uint8)
    samples = gpu_pytorch.peers_ms(weights, pixels, PreprocessSpec(), 2, device="cpu")
    assert {name: len(values) for name, values in samples.items()} == {"eager": 2, "torch.compile": 2}
    if gpu_pytorch.absent():
        assert gpu_check.check_pytorch(None, weights, (1,), 2) == []  # type: ignore[arg-type]
        assert "no CUDA device" in capsys.readouterr().err

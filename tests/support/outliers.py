"""A graph whose LayerNorms have outliers, as bytes: once for all workers of a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.standalone.outlier_smoothing import model_with_outliers
from tests.support.made_once import made_once
from tests.support.small_bundle import SMALL_VIT


@pytest.fixture(scope="session")
def outlier_graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The fp32 graph of timm's test ViT with outliers, as `outlier_smoothing` makes it."""

    def make(folder: Path) -> None:
        (folder / "outliers.onnx").write_bytes(model_with_outliers(SMALL_VIT).SerializeToString())

    return (made_once(tmp_path_factory, "outliers", make) / "outliers.onnx").read_bytes()

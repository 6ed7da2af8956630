"""Bundles that engines are built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.cuda.fixtures import kernel_library, make_gpu
from tests.support.typed_graphs import write_typed_bundle

__all__ = ["kernel_library", "make_gpu"]  # fixtures


@pytest.fixture(scope="session")
def typed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """All five graphs of a one-block transformer, written by hand; read-only."""
    return write_typed_bundle(tmp_path_factory.mktemp("typed") / "typed.dtvit")


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """timm's 6-block test ViT as `export` writes it; read-only."""
    pytest.importorskip("torch", reason="PyTorch, a workstation's package, is not installed")
    from export.bundle_export import export_bundle
    from export.checkpoint import save_checkpoint
    from export.untrained import untrained_model

    folder: Path = tmp_path_factory.mktemp("small")
    save_checkpoint(untrained_model("test_vit"), folder / "small.safetensors", training="untrained")
    return export_bundle(folder / "small.safetensors", folder / "small.dtvit")

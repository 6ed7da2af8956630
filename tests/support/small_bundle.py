"""timm's test ViT, untrained, as a checkpoint and as bundles: once for all workers of a test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.made_once import made_once

SMALL_VIT = "test_vit"


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DTViT of timm's 6-block test ViT as safetensors, marked untrained; read-only."""
    pytest.importorskip("torch", reason="PyTorch, a workstation's package, is not installed")
    from export.checkpoint import save_checkpoint
    from export.untrained import untrained_model

    def make(folder: Path) -> None:
        save_checkpoint(untrained_model(SMALL_VIT), folder / "small.safetensors", training="untrained")

    return made_once(tmp_path_factory, "small-checkpoint", make) / "small.safetensors"


@pytest.fixture(scope="session")
def small_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same as a bundle; copy it before it is changed."""
    from export.bundle_export import export_bundle

    def make(folder: Path) -> None:
        export_bundle(small_checkpoint, folder / "small.dtvit")

    return Bundle.open(made_once(tmp_path_factory, "small-bundle", make) / "small.dtvit")


@pytest.fixture(scope="session")
def two_block_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same encoder with two of its blocks, which are quickly calibrated; copy it before it is changed."""
    return _two_blocks(SMALL_VIT, tmp_path_factory)


@pytest.fixture(scope="session")
def trimmed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that leaves out empty patches, with two blocks; copy it before it is changed."""
    return _two_blocks(f"trimmed_{SMALL_VIT}", tmp_path_factory)


def _two_blocks(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    import torch

    from export.bundle_export import export_bundle
    from export.encoders import create_encoder
    from export.untrained import untrained_model

    def make(folder: Path) -> None:
        model = untrained_model(encoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.encoder = create_encoder(encoder, depth=2)
        torch.save(model.state_dict(), folder / "two.pt")
        (folder / "import.toml").write_text(f'[encoder]\nname = "{encoder}"\noptions = {{ depth = 2 }}\n')
        export_bundle(folder / "two.pt", folder / "two.dtvit", training="untrained", activation="gelu")

    return Bundle.open(made_once(tmp_path_factory, f"two-blocks-{encoder}", make) / "two.dtvit")

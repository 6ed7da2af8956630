from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dtvit_edge.errors import CheckpointError
from export._torchvision import timm
from export.checkpoint import save_checkpoint
from export.encoder_weights import is_encoder_file, load_encoder
from export.model import DTViT

ENCODER = "test_vit"


def pretrained(path: Path, **options: object) -> dict[str, torch.Tensor]:
    """A file as a model hub has it: another image size and a classifier."""
    torch.manual_seed(3)
    tensors = timm.create_model(ENCODER, **options).state_dict()
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    return tensors


def test_weights_arrive_the_position_embedding_resampled_and_the_classifier_left_out(tmp_path: Path) -> None:
    tensors = pretrained(tmp_path / "w.safetensors", img_size=160, num_classes=7)
    model = DTViT(ENCODER)
    heads = {k: v.clone() for k, v in model.state_dict().items() if "_head." in k}
    load_encoder(model, tmp_path / "w.safetensors")
    weights = model.encoder.state_dict()
    assert "head.weight" in tensors and "head.weight" not in weights
    assert weights["pos_embed"].shape == (1, 197, 64) != tensors["pos_embed"].shape
    assert not torch.equal(weights["pos_embed"], DTViT(ENCODER).encoder.state_dict()["pos_embed"])
    assert all(torch.equal(weights[k], tensors[k]) for k in weights if k != "pos_embed")
    assert all(torch.equal(heads[k], v) for k, v in model.state_dict().items() if k in heads)


def test_a_whole_checkpoint_is_no_encoder_file(tmp_path: Path) -> None:
    save_checkpoint(DTViT(ENCODER), tmp_path / "whole.safetensors", training="synthetic")
    pretrained(tmp_path / "w.safetensors")
    assert not is_encoder_file(tmp_path / "whole.safetensors")
    assert is_encoder_file(tmp_path / "w.safetensors")


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no weights for"):
        load_encoder(DTViT(ENCODER), tmp_path / "other.safetensors")
    tensors = pretrained(tmp_path / "w.safetensors")
    tensors["norm.weight"] = torch.zeros(5)
    save_file(tensors, tmp_path / "bent.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_encoder(DTViT(ENCODER), tmp_path / "bent.safetensors")

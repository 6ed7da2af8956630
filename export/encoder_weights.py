"""Pretrained weights of an encoder alone, from a local file with timm's names; nothing is ever downloaded."""

from __future__ import annotations

from pathlib import Path

from dtvit_edge.errors import CheckpointError
from export.checkpoint import read_tensors
from export.encoders import create_encoder
from export.model import HEADS, DTViT


def is_encoder_file(path: Path) -> bool:
    """Whether a file holds an encoder's weights rather than a whole DTViT's.

    Raises:
        CheckpointError: not readable as weights.
    """
    tensors, _ = read_tensors(path)
    return not any(key.partition(".")[0] in HEADS for key in tensors)


def load_encoder(model: DTViT, path: Path) -> None:
    """Put pretrained weights into a model's encoder; its heads stay as they are.

    A position embedding for another image size is resampled, and a classifier in the file is left out, both by timm.

    Raises:
        CheckpointError: unreadable, or weights that do not cover the encoder.
    """
    tensors, _ = read_tensors(path)
    missing = sorted(set(model.encoder.state_dict()) - set(tensors))
    if missing:
        raise CheckpointError(
            f"{path}: no weights for {len(missing)} of {model.encoder_name}'s tensors, {missing[0]} among them; "
            "expected an encoder's weights with timm's names"
        )
    try:
        pretrained = create_encoder(model.encoder_name, tensors)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: weights do not fit {model.encoder_name}: {error}") from error
    model.encoder.load_state_dict(pretrained.state_dict())

"""Checkpoints: weights in safetensors, or a state dict in `.pt`, to and from DTViT.

Safetensors carry `encoder`, `training`, `spec` (JSON) and, where a head was never trained, `untrained_heads` (names
joined by commas) in their metadata. How files of any kind are opened is `export.weights`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.files import write_atomically
from dtvit_edge.spec import HEAD_LABELS, TRAINING_STATES, PreprocessSpec, digest_file
from export.encoders import DEFAULT_ENCODER, INPUT_SIZE
from export.model import HEADS, DTViT, HeadLayout
from export.trimmed import PREFIX
from export.weights.choosing import choose_tensors, some
from export.weights.parts import require_fit
from export.weights.reading import SAFETENSORS, read_weights
from export.weights.sanity import check_values


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights and what the file says about them.

    Attributes:
        model: DTViT, float32, eval mode.
        training: one of `TRAINING_STATES`; None where the file does not say.
        spec: the preprocessing it was trained with; None where the file does not say.
        sha256: of the file.
        untrained_heads: those of `HEAD_LABELS` that were never trained.
    """

    model: DTViT
    training: str | None
    spec: PreprocessSpec | None
    sha256: str
    untrained_heads: tuple[str, ...]


def load_checkpoint(path: Path, encoder: str | None = None, *, to_train: bool = False) -> Checkpoint:
    """Read a checkpoint with this project's own names into a model whose heads have the sizes found in it.

    `export.importing.import_model` reads any other.

    Args:
        encoder: its name where the file does not carry it, `DEFAULT_ENCODER` if neither says.
        to_train: a plain ViT's weights may be asked for as those of one that leaves out empty patches, which have the
            same keys: they are where a training begins, and no such model before it.

    Raises:
        CheckpointError: unreadable, not a checkpoint, or weights that do not fit, with the keys in words.
        ConfigError: an encoder that does not exist.
    """
    tensors, metadata = read_tensors(path)
    named = metadata.get("encoder")
    if named and encoder and to_train and encoder == f"{PREFIX}{named}":
        named = encoder
    if named and encoder and named != encoder:
        raise CheckpointError(f"{path}: its metadata says encoder {named!r}, --encoder says {encoder!r}")
    training = metadata.get("training")
    if training is not None and training not in TRAINING_STATES:
        raise CheckpointError(
            f"{path}: its metadata says training {training!r}, expected one of {', '.join(TRAINING_STATES)}"
        )
    spec = _spec(path, metadata)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    try:
        layouts = {head: HeadLayout.from_shapes(head, shapes) for head in HEADS}
        size = INPUT_SIZE if spec is None else spec.crop
        name = named or encoder or DEFAULT_ENCODER
        model = DTViT(name, layouts["ich_head"], layouts["location_head"], size=size)
        _check_keys(model, shapes)
        check_values(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.load_state_dict(tensors)  # copies into float32, which widens halves
    return Checkpoint(model.eval(), training, spec, digest_file(path), _untrained_heads(path, metadata))


def save_checkpoint(
    model: DTViT,
    path: Path,
    *,
    training: str,
    dtype: torch.dtype = torch.float32,
    spec: PreprocessSpec | None = None,
    untrained_heads: Collection[str] = (),
) -> None:
    """Write a model as safetensors; the same model gives the same bytes.

    Args:
        path: ends with `.safetensors`.
        training: one of `TRAINING_STATES`.
        dtype: float32, or float16 at half the size (`load_checkpoint` widens it again).
        untrained_heads: of `HEAD_LABELS`, those that were never trained in a model that otherwise was.

    Raises:
        ConfigError: another ending, training state, dtype or head.
        CheckpointError: a weight is not finite, or does not fit into float16.
    """
    if path.suffix != SAFETENSORS:
        raise ConfigError(f"{path}: a checkpoint is written as {SAFETENSORS}")
    if training not in TRAINING_STATES:
        raise ConfigError(f"training is {training!r}, expected one of {', '.join(TRAINING_STATES)}")
    if dtype not in (torch.float16, torch.float32):
        raise ConfigError(f"a checkpoint is written in float16 or float32, not {dtype}")
    untrained = ordered_heads(untrained_heads)
    tensors = {
        key: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for key, value in model.state_dict().items()
    }
    _check_finite(tensors)
    metadata = {"encoder": model.encoder_name, "training": training}
    if spec is not None:
        metadata["spec"] = json.dumps(spec.to_dict(), sort_keys=True)
    if untrained:
        metadata["untrained_heads"] = ",".join(untrained)
    write_atomically(path, _sorted_header(save(tensors, metadata)))


def ordered_heads(names: Collection[str]) -> tuple[str, ...]:
    """The names of heads, each once and in the order of `HEAD_LABELS`; a ConfigError where there is no such head."""
    unknown = sorted(set(names) - set(HEAD_LABELS))
    if unknown:
        raise ConfigError(f"no head is called {', '.join(map(repr, unknown))}; there are {' and '.join(HEAD_LABELS)}")
    return tuple(head for head in HEAD_LABELS if head in names)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors by plain key and its metadata; averaged weights beside plain ones are left where they are."""
    data, metadata = read_weights(path)
    return choose_tensors(path, data, ema=None).tensors, metadata


def _check_keys(model: DTViT, shapes: Mapping[str, tuple[int, ...]]) -> None:
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = [
        f"{key} {shapes[key]} instead of {shape}"
        for key, shape in expected.items()
        if key in shapes and shapes[key] != shape
    ]
    missing, unexpected = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    require_fit(model.encoder_name, missing, unexpected, wrong)


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    odd = [k for k, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if odd:
        raise CheckpointError(some("weights that are not finite", odd))


def _spec(path: Path, metadata: Mapping[str, str]) -> PreprocessSpec | None:
    text = metadata.get("spec")
    if text is None:
        return None
    try:
        return PreprocessSpec.from_dict(json.loads(text))
    except (ValueError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path}: the preprocessing spec in its metadata: {error}") from error


def _untrained_heads(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    text = metadata.get("untrained_heads")
    if text is None:
        return ()
    try:
        return ordered_heads(text.split(","))
    except ConfigError as error:
        raise CheckpointError(f"{path}: the untrained heads in its metadata: {error}") from error


def _sorted_header(data: bytes) -> bytes:
    """Safetensors bytes with their header's keys sorted: the library writes metadata in a random order.

    Format: 8 bytes with the header's length (little-endian), JSON padded with blanks to a multiple of 8, then
    the tensors.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]

"""Checkpoints: weights in safetensors, or a state dict in `.pt`, to and from DTViT.

Safetensors carry `encoder`, `training`, `spec` (JSON) and, where a head was never trained, `untrained_heads` (names
joined by commas) in their metadata. A `.pt` file is read with `weights_only=True`, which had holes before torch 2.10
(CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import HEAD_LABELS, TRAINING_STATES, PreprocessSpec, digest_file
from export.encoders import DEFAULT_ENCODER
from export.model import HEADS, DTViT, HeadLayout

SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth")
SAFE_TORCH = (2, 10)
NESTED_IN = ("state_dict", "model")
DATA_PARALLEL = "module."
_LISTED = 8


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


def load_checkpoint(path: Path, encoder: str | None = None) -> Checkpoint:
    """Read a checkpoint into a model whose heads have the sizes found in it.

    Args:
        encoder: its name where the file does not carry it, `DEFAULT_ENCODER` if neither says.

    Raises:
        CheckpointError: unreadable, not a checkpoint, or weights that do not fit, with the keys in words.
        ConfigError: an encoder that does not exist.
    """
    tensors, metadata = read_tensors(path)
    named = metadata.get("encoder")
    if named and encoder and named != encoder:
        raise CheckpointError(f"{path}: its metadata says encoder {named!r}, --encoder says {encoder!r}")
    training = metadata.get("training")
    if training is not None and training not in TRAINING_STATES:
        raise CheckpointError(
            f"{path}: its metadata says training {training!r}, expected one of {', '.join(TRAINING_STATES)}"
        )
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    try:
        layouts = {head: HeadLayout.from_shapes(head, shapes) for head in HEADS}
        model = DTViT(named or encoder or DEFAULT_ENCODER, layouts["ich_head"], layouts["location_head"])
        _check_keys(model, shapes)
        _check_finite(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.load_state_dict(tensors)  # copies into float32, which widens halves
    return Checkpoint(
        model.eval(), training, _spec(path, metadata), digest_file(path), _untrained_heads(path, metadata)
    )


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
    path.write_bytes(_sorted_header(save(tensors, metadata)))


def ordered_heads(names: Collection[str]) -> tuple[str, ...]:
    """The names of heads, each once and in the order of `HEAD_LABELS`; a ConfigError where there is no such head."""
    unknown = sorted(set(names) - set(HEAD_LABELS))
    if unknown:
        raise ConfigError(f"no head is called {', '.join(map(repr, unknown))}; there are {' and '.join(HEAD_LABELS)}")
    return tuple(head for head in HEAD_LABELS if head in names)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors by plain key and its metadata."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix == SAFETENSORS:
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                metadata = file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not readable as safetensors: {error}") from error
        return _plain_keys(path, tensors), metadata
    if path.suffix not in PICKLED:
        raise CheckpointError(f"{path}: expected {SAFETENSORS}, {' or '.join(PICKLED)}")
    return _plain_keys(path, _read_pickled(path)), {}


def _read_pickled(path: Path) -> Any:
    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if release < SAFE_TORCH:
        needed = ".".join(map(str, SAFE_TORCH))
        raise CheckpointError(
            f"{path}: reading {path.suffix} files safely needs torch {needed} or newer, this is "
            f"{torch.__version__} (CVE-2025-32434, CVE-2026-24747); convert it to {SAFETENSORS}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than weights, which could be code and is not loaded; save model.state_dict()"
        ) from error
    except Exception as error:  # torch raises EOFError, RuntimeError, KeyError ... on what is no checkpoint
        kind = type(error).__name__
        raise CheckpointError(f"{path}: not readable as a PyTorch checkpoint: {kind}") from error


def _plain_keys(path: Path, data: Any) -> dict[str, Tensor]:
    """The state dict itself: out of `{"state_dict": ...}`, without DataParallel's prefix."""
    for name in NESTED_IN:
        if isinstance(data, Mapping) and isinstance(data.get(name), Mapping):
            data = data[name]
    if not isinstance(data, Mapping) or not data:
        raise CheckpointError(f"{path}: holds no weights by name, but {_kind(data)}")
    odd = [str(key) for key, value in data.items() if not isinstance(value, Tensor)]
    if odd:
        raise CheckpointError(f"{path}: {_some('entries that are no tensors', odd)}")
    return {str(key).removeprefix(DATA_PARALLEL): value for key, value in data.items()}


def _check_keys(model: DTViT, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse missing, unexpected and wrongly shaped weights, all named in one message."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = [
        f"{key} {shapes[key]} instead of {shape}"
        for key, shape in expected.items()
        if key in shapes and shapes[key] != shape
    ]
    complaints = [
        _some(kind, keys)
        for kind, keys in (
            ("missing", sorted(set(expected) - set(shapes))),
            ("unexpected", sorted(set(shapes) - set(expected))),
            ("of a wrong shape", wrong),
        )
        if keys
    ]
    if complaints:
        raise CheckpointError(f"weights do not fit {model.encoder_name}: {'; '.join(complaints)}")


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    odd = [k for k, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if odd:
        raise CheckpointError(_some("weights that are not finite", odd))


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


def _some(kind: str, keys: list[str]) -> str:
    """`2 missing: a, b`; the first few of many."""
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:_LISTED])}{more}"


def _kind(data: Any) -> str:
    return "nothing" if isinstance(data, Mapping) else f"a {type(data).__name__}"

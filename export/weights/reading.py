"""Opening a file of weights; nothing in it is ever run.

Safetensors hold numbers alone. A pickled file is read with `weights_only=True`, which had holes before torch 2.10
(CVE-2025-32434, CVE-2026-24747); what does not load so is refused with the line that converts it where it was made.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dtvit_edge.errors import CheckpointError

SAFETENSORS = ".safetensors"
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pth.tar")
ENDINGS = (SAFETENSORS, *PICKLED)
SAFE_TORCH = (2, 10)
_LFS_POINTER = b"version https://git-lfs"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.(?:safetensors|bin)$")  # as transformers and safetensors name them
_LISTED = 4


def read_weights(path: Path) -> tuple[Any, dict[str, str]]:
    """What a file holds and the metadata beside it.

    Returns:
        Tensors by key (safetensors), or whatever was saved (a state dict, or one inside other mappings); and the
        metadata of a safetensors file, empty for others.

    Raises:
        CheckpointError: no such file, another ending, unreadable, or more than weights in it.
    """
    require_weights_file(path)
    if path.name.endswith(SAFETENSORS):
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                return tensors, file.metadata() or {}
        except (SafetensorError, OSError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}: not readable as safetensors: {error}") from error
    if not path.name.endswith(PICKLED):
        raise CheckpointError(f"{path}: expected {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return _read_pickled(path), {}


def require_weights_file(path: Path) -> None:
    """Refuse what is not there, or stands for weights without being some.

    Raises:
        CheckpointError: no file, a folder, a pointer of Git LFS, or one shard of a model.
    """
    if path.is_dir():
        files = sorted(f.name for f in path.iterdir() if f.name.endswith(ENDINGS))
        which = f"; it holds {', '.join(files[:_LISTED])}" if files else ", and holds no file of weights"
        raise CheckpointError(f"{path}: a folder; give the file of weights itself{which}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise CheckpointError(
                f"{path}: a pointer of Git LFS; `git lfs pull` fetches the weights that it stands for"
            )
    if (shard := _SHARD.search(path.name)) and int(shard[2]) > 1:
        raise CheckpointError(
            f"{path}: shard {int(shard[1])} of {int(shard[2])}, a part of the weights; load the model from all of them "
            "and save it as one file"
        )


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
        raise CheckpointError(_more_than_weights(path, str(error))) from error
    except Exception as error:  # torch raises EOFError, RuntimeError, KeyError ... on what is no checkpoint
        if "TorchScript" in str(error):
            raise CheckpointError(
                f"{path}: a TorchScript archive, which is code; save model.state_dict() of the module that was scripted"
            ) from error
        kind = type(error).__name__
        raise CheckpointError(f"{path}: not readable as a PyTorch checkpoint: {kind}") from error


def _more_than_weights(path: Path, message: str) -> str:
    """The sentence that helps: what is in the way, and the line that takes the weights out of a trusted file."""
    objects = re.findall(r"GLOBAL (\S+)", message)
    inside = f" ({', '.join(dict.fromkeys(objects))})" if objects else ""
    return (
        f"{path}: holds more than weights{inside}, which could be code and is not loaded. Where you made the file "
        f"yourself, take the weights out of it once, in the environment that wrote it:\n"
        f"  python -c \"import torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False); "
        "s = lambda v: v.state_dict() if hasattr(v, 'state_dict') else v; "
        "t = lambda v: v if torch.is_tensor(v) else {k: t(s(w)) for k, w in v.items() "
        "if torch.is_tensor(w) or hasattr(s(w), 'items')}; "
        "torch.save(t(s(c)), 'weights.pt')\"\n"
        "and export weights.pt: it holds the tensors alone, by the names that they have"
    )


def kind_of(data: Any) -> str:
    """A word for what was found instead of weights."""
    return "nothing" if isinstance(data, Mapping) and not data else f"a {type(data).__name__}"

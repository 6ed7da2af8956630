"""Numbers that no trained model has: whole, complex, 8-bit, all zero, all the same, or absurdly large."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dtvit_edge.errors import CheckpointError
from export.weights.choosing import some

# Far above any weight of a trained model (batch norm's variances of raw bytes reach 1e5), far below where float32's
# products overflow (1.8e19 squared).
MOST = 1e10
# The names that layers give to their numbers; integers elsewhere (counters, position ids) are no weights.
_WEIGHTS = {"weight", "bias", "running_mean", "running_var", "pos_embed", "cls_token", "in_proj_weight", "gamma"}


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """Refuse values that cannot be a trained model's.

    Raises:
        CheckpointError: naming the first few tensors and what is wrong with them.
    """
    for complaint, is_wrong in _COMPLAINTS:
        keys = [key for key, value in tensors.items() if is_wrong(key, value)]
        if keys:
            raise CheckpointError(some(complaint, keys))


def widened(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Tensors in float32, and a sentence on what that changed; empty where nothing did.

    Halves and bfloat16 are widened exactly; float64 is rounded to the nearest float32.

    Raises:
        CheckpointError: a float64 value that float32 cannot hold to its own rounding.
    """
    kinds = {value.dtype for value in tensors.values() if value.is_floating_point()}
    if torch.float64 in kinds:
        least = torch.finfo(torch.float32).tiny
        lost = [
            key
            for key, value in tensors.items()
            if value.dtype == torch.float64 and bool(((value != 0) & (value.abs() < least)).any())
        ]
        if lost:
            raise CheckpointError(some("float64 weights that float32 cannot hold", lost))
    wide = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    if torch.float64 in kinds:
        return wide, "float64 weights are rounded to the nearest float32"
    narrow = sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32})
    return wide, f"{' and '.join(narrow)} weights are widened to float32, which is exact" if narrow else ""


def _is_integer(key: str, value: Tensor) -> bool:
    whole = not value.is_floating_point() and not value.is_complex()
    return value.is_quantized or (whole and value.ndim > 0 and key.rpartition(".")[2] in _WEIGHTS)


def _is_fp8(key: str, value: Tensor) -> bool:
    return "float8" in str(value.dtype) or "float4" in str(value.dtype)


def _is_matrix(key: str, value: Tensor) -> bool:
    return key.endswith("weight") and value.is_floating_point() and value.ndim > 1 and value.numel() > 1


_COMPLAINTS: tuple[tuple[str, Callable[[str, Tensor], bool]], ...] = (
    ("weights that are integers (quantised ones are not taken; export the float model)", _is_integer),
    ("weights that are complex numbers", lambda key, value: value.is_complex()),
    ("weights in 8-bit floats (their scales are elsewhere; export the float model)", _is_fp8),
    ("weights that are not finite", lambda key, value: value.is_floating_point() and not bool(value.isfinite().all())),
    (
        f"weights with absurd values, above {MOST:g} (they overflow in the first products)",
        lambda key, value: value.is_floating_point() and value.numel() > 0 and float(value.abs().max()) > MOST,
    ),
    ("weights that are all zero (never trained)", lambda k, v: _is_matrix(k, v) and not bool(v.any())),
    (
        "weights that are all the same value (never trained)",
        lambda k, v: _is_matrix(k, v) and bool((v == v.reshape(-1)[0]).all()),
    ),
)

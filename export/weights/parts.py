"""Weights that do not fit, and weights in parts, out of which a library computes those of a layer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dtvit_edge.errors import CheckpointError
from export.weights.choosing import some

# Names of parts of a key, and how plain weights are had.
_IN_PARTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(^|\.)(parametrizations|weight_[guv])(\.|$)"),
        "a reparametrised layer (weight norm, spectral norm); make its weights plain before saving "
        "(torch.nn.utils.parametrize.remove_parametrizations)",
    ),
    (
        re.compile(r"(^|\.)lora_"),
        "an adapted layer (LoRA); merge it into plain weights before saving (merge_and_unload)",
    ),
    (
        re.compile(r"(^|\.)(weight|bias)_(orig|mask)$"),
        "a pruned layer; make its weights plain before saving (torch.nn.utils.prune.remove for each)",
    ),
    (
        re.compile(r"fake_quant|activation_post_process|_quantizer\."),
        "trained with simulated quantisation; export the float model that it began with, or the module itself, "
        "--model FILE.py:FACTORY, without its observers (calibrate makes int8 and fp8)",
    ),
)


def refuse_parts(keys: Iterable[str]) -> None:
    """Say of tensors that are in the way how plain weights are had, where a library left their names.

    Raises:
        CheckpointError: some are parts of which a layer's weight is computed.
    """
    keys = list(keys)
    for pattern, what in _IN_PARTS:
        if found := [key for key in keys if pattern.search(key)]:
            raise CheckpointError(f"{what}: {some('tensors', found)}")


def require_fit(name: str, missing: list[str], unexpected: list[str], wrong: list[str]) -> None:
    """Refuse weights that are missing, unexpected or of a wrong shape, all named in one message.

    Raises:
        CheckpointError: there are some.
    """
    refuse_parts(unexpected)
    kinds = (("missing", missing), ("unexpected", unexpected), ("of a wrong shape", wrong))
    complaints = [some(kind, keys) for kind, keys in kinds if keys]
    if complaints:
        raise CheckpointError(f"weights do not fit {name}: {'; '.join(complaints)}")

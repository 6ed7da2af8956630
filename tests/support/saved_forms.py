"""What becomes of a state dict when it is saved: other names, other places, a second set beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch


def as_dinov2_saves(state: dict[str, Any]) -> dict[str, Any]:
    """Two blocks a chunk, numbered through, and the mask token."""
    names = {key: re.sub(r"blocks\.(\d+)\.", lambda n: f"blocks.{int(n[1]) // 2}.{n[1]}.", key) for key in state}
    return {names[key]: value for key, value in state.items()} | {"backbone.mask_token": torch.zeros(1, 64)}


def renamed(name: str, *names: str) -> Callable[[dict[str, Any]], Any]:
    """The first block's tensor of a name under others."""

    def wrap(state: dict[str, Any]) -> Any:
        key = next(key for key in state if key.endswith(f"blocks.0.{name}"))
        more = {key.replace(name, new): state[key] for new in names}
        return {k: v for k, v in state.items() if k != key} | more

    return wrap


def prefixed(prefix: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


def plain_and_ema(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {
        "state_dict": {k: v + 0.1 if v.is_floating_point() else v for k, v in state.items()},
        name: state,
    }


def average_of_a_callback(state: dict[str, Any]) -> dict[str, Any]:
    """As callbacks of Lightning keep it; others keep their best score."""
    both = plain_and_ema("average")(state)
    callbacks = {"EMA": {"ema_state_dict": both["average"]}, "Checkpoint": {"best_model_score": torch.tensor(0.9)}}
    return {"state_dict": both["state_dict"], "callbacks": callbacks}

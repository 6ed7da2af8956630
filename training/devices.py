"""The device that a training computes on: whether it is there, what it is called, and how long it was at work."""

from __future__ import annotations

import time

import torch

from dtvit_edge.environment import processor
from dtvit_edge.errors import ConfigError

CPU = "cpu"
# A longer time between two steps is a process that somebody has stopped, and no work.
PAUSE_SECONDS = 60.0


def kind(device: str) -> str:
    """The device without its number.

    Raises:
        ConfigError: no device is called so.
    """
    try:
        return torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"{device!r} is no PyTorch device; expected cpu, cuda or cuda:0") from error


def is_there(device: str) -> bool:
    """Whether this machine and this PyTorch have the device."""
    of = kind(device)
    backend = getattr(torch, of, None)
    return of == CPU or bool(backend is not None and backend.is_available())


def require(device: str) -> None:
    """Raise a ConfigError where the device is missing: there is no other one that was meant."""
    if not is_there(device):
        raise ConfigError(f"there is no device {device!r} here, or this PyTorch cannot use it; leave it at cpu")


def name_of(device: str) -> str:
    """What the device is called by its maker, or the processor's name."""
    if kind(device) == "cuda":
        return str(torch.cuda.get_device_name(device))
    return processor()


def is_fast(device: str) -> bool:
    """Whether images are turned and sharpened in batches on the device; a CPU does so one by one, bit for bit."""
    return kind(device) != CPU


class WorkClock:
    """Seconds on the wall during which a training was at work: a stop between two steps does not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.perf_counter()

    def tick(self) -> None:
        """Count the time since the last call."""
        now = time.perf_counter()
        if now - self._last < PAUSE_SECONDS:
            self.seconds += now - self._last
        self._last = now

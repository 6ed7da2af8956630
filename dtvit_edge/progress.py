"""How far a stage is, told to whoever draws it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Told how far a stage is; the command line draws it."""

    def __call__(self, stage: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a stage of `total` steps; the context's value is called with the number of steps just done."""
        ...


def silent(stage: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A Progress that shows nothing."""
    return nullcontext(lambda steps: None)

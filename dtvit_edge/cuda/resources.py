"""What was allocated on a device, and its way back."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType


class Resources:
    """Steps that give things back, run last first; one that fails stops no other.

    As a context manager they run where its block fails, so that a failed opening leaves nothing. What failed lets go of
    its frames' locals first: a library's object among them would outlive what it belongs to, or die in another thread.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def __enter__(self) -> Resources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        drop_locals(error)
        with suppress(Exception):  # what failed first is what is told
            self.free()

    def add(self, step: Callable[[], object]) -> None:
        """What gives back the thing that was just allocated."""
        self._steps.append(step)

    def free(self) -> None:
        """Run the steps; nothing may be under way.

        Raises:
            Exception: the first that a step raised, after all have run.
        """
        first: Exception | None = None
        while self._steps:
            step = self._steps.pop()
            try:
                step()
            except Exception as error:
                drop_locals(error)
                first = first or error
        if first is not None:
            try:
                raise first
            finally:
                first = None  # it holds this frame


def drop_locals(error: BaseException) -> None:
    """Clear the frames that an error and those behind it keep, but for those that are running."""
    links = [error]
    for link in links:
        traceback.clear_frames(link.__traceback__)
        links += [e for e in (link.__cause__, link.__context__) if e is not None and e not in links]

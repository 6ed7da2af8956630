"""Waits for something to change below folders, by events of the system, where `watchfiles` is installed.

Events only end a pause early: shares of other machines tell nobody of what others write to them, and what a system can
watch has limits, so that every pause has an end all the same.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class ChangeEvents:
    """Pauses that a change below the folders ends.

    Args:
        changes: a generator that ends each `next` with a change or after the longest pause.
    """

    def __init__(self, changes: Any) -> None:
        self._changes = changes

    def pause(self, seconds: float) -> float:
        """Wait until something changes, `seconds` at most; returns how long it was.

        A system that can no longer tell is waited for by the clock, from now on.
        """
        began = time.monotonic()
        try:
            if self._changes is not None:
                next(self._changes)
        except Exception as error:  # whatever the system's watcher runs into
            _polled(error)
            self._changes = None
        if self._changes is None:
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        return time.monotonic() - began


@contextmanager
def change_events(folders: Sequence[Path], out: Path, seconds: float) -> Iterator[ChangeEvents | None]:
    """Events of the system below the folders, or None where there are none to be had.

    Args:
        out: what is written below it is no event.
        seconds: the longest pause.
    """
    try:
        import watchfiles
    except ImportError:
        yield None
        return
    own = os.path.join(os.path.realpath(out), "")
    changes = watchfiles.watch(
        *folders,
        watch_filter=lambda change, path: not os.path.realpath(path).startswith(own),
        rust_timeout=int(1000 * seconds),
        yield_on_timeout=True,
        ignore_permission_denied=True,
        force_polling=False,  # that is what our own looks are
    )
    try:
        yield ChangeEvents(changes)
    finally:
        changes.close()


def _polled(error: Exception) -> None:
    log.warning("the system does not tell of changes (%s): the folders are polled", type(error).__name__)

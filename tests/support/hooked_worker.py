"""A worker that meets what a test asks for: the file `hook` beside the bundle says what, and is read at each slice.

| hook | what happens |
|---|---|
| `kill NAME` | reading a file of that name ends the worker's process |
| `kill-once NAME`, `stall-once NAME` | it does so once; or it never comes back |
| `slow SECONDS` | each slice takes so long |
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from dtvit_edge.cluster.worker import Opened, Order, Refused, Worker
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.scoring.image_reading import Reader


class HookedWorker(Worker):
    def open(self, order: Order, sent: dict[str, bytes] | None = None) -> Opened | Refused:
        self._hook = Path(order.path).with_name("hook")
        return super().open(order, sent)

    def _counted_reader(self) -> AbstractContextManager[Reader]:
        return _hooked(super()._counted_reader(), self._hook)


@contextmanager
def _hooked(reader: AbstractContextManager[Reader], hook: Path) -> Iterator[Reader]:
    with reader as inner:
        yield _HookedReader(inner, hook)


class _HookedReader:
    def __init__(self, reader: Reader, hook: Path) -> None:
        self._reader = reader
        self._hook = hook

    def read(self, header: SliceHeader) -> Slice:
        what, _, name = (self._hook.read_text() if self._hook.exists() else "").partition(" ")
        if what == "slow":
            time.sleep(float(name))
        elif what and header.path.endswith(name):
            if what.endswith("-once"):
                try:
                    self._hook.with_name("done").touch(exist_ok=False)
                except FileExistsError:
                    return self._reader.read(header)
            if what.startswith("stall"):
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)
        return self._reader.read(header)

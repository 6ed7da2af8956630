"""The logits of one batch on the host, page-locked. For the device's owner thread alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import DeviceMemory
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.spec import OUTPUT_SIZES


class HostLogits:
    """Room for one batch; several batches under way have one each.

    Raises:
        pycuda.driver.MemoryError: there is not so much.
    """

    def __init__(self, device: Device, max_batch: int) -> None:
        self._device = device
        self._host: dict[str, NDArray[np.float32]] = {}
        with Resources() as undo:
            for name, size in OUTPUT_SIZES.items():
                rows = device.cuda.pagelocked_empty((max_batch, size), np.float32)
                undo.add(rows.base.free)
                self._host[name] = rows
            self._resources = undo

    def download(self, stream: Any, count: int, outputs: dict[str, DeviceMemory]) -> None:
        """Queue the copy of `count` rows."""
        for name, memory in outputs.items():
            self._device.cuda.memcpy_dtoh_async(self._host[name][:count], memory.address, stream)

    def take(self, count: int) -> Logits:
        """A copy of what has arrived: the next batch overwrites the page-locked rows."""
        return {name: rows[:count].copy() for name, rows in self._host.items()}

    def free(self) -> None:
        """Give it back."""
        self._resources.free()

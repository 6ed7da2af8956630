"""What one batch under way on the GPU holds: its pixels, its bytes for the model, its answers. For the owner thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import Buffer, DeviceMemory, GrowableMemory, HostMemory
from dtvit_edge.cuda.resources import Resources
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.preprocess import kernel
from dtvit_edge.scoring.pinned_slices import PinnedSlice, Place, neighbours
from dtvit_edge.trt.host_logits import HostLogits

Prepared = PinnedSlice | Slice


class Slot:
    """Memory and events of one batch.

    Args:
        input_bytes: of the model's largest batch.

    Attributes:
        prepared: the batch that is under way.
        input: of the model, (max_batch, C, side, side) uint8; inputs: of the kernel; head_stats: its counts.
        ready: `input` is there; done: the answers are.
    """

    def __init__(self, device: Device, max_batch: int, input_bytes: int) -> None:
        self.prepared: Sequence[Prepared] = ()
        self._device = device
        with Resources() as undo:
            self._pixels = GrowableMemory(device, DeviceMemory)
            undo.add(self._pixels.free)
            self._unpinned = GrowableMemory(device, HostMemory)
            undo.add(self._unpinned.free)
            self.input = DeviceMemory(device, input_bytes)
            undo.add(self.input.free)
            self.inputs = Buffer(device, max_batch * kernel.SLICE_INPUT.itemsize)
            undo.add(self.inputs.free)
            self.head_stats = Buffer(device, max_batch * kernel.HEAD_STATS.itemsize)
            undo.add(self.head_stats.free)
            self.logits = HostLogits(device, max_batch)
            undo.add(self.logits.free)
            undo.add(self._drop_events)
            self.ready, self.done = device.event(), device.event()
            self._resources = undo

    def upload(self, prepared: Sequence[Prepared], stream: Any) -> list[kernel.PlacedSlice]:
        """Queue the copies of all pixels; where they will lie. The slot's batch before must be through.

        A Jetson's GPU reads them where they are, uncached: the kernel reads each pixel once, 16 bytes at a time.
        """
        places = self._places(prepared)
        about = [(p.shape, p.encoding) if isinstance(p, PinnedSlice) else _about(p) for p in prepared]
        addresses = [place.address for place in places]
        if not self._device.integrated:
            memory = self._pixels.at_least(sum(place.nbytes for place in places))
            address = memory.address
            for source, start, end, members in neighbours(places):
                self._device.cuda.memcpy_htod_async(address, source.host[start:end], stream)
                for i in members:
                    addresses[i] = address + places[i].start - start
                address += end - start
        return [kernel.PlacedSlice(a, *one) for a, one in zip(addresses, about, strict=True)]

    def shrink(self) -> None:
        """Give back what grows with a batch; nothing of it may be under way."""
        self._pixels.free()
        self._unpinned.free()

    def free(self) -> None:
        """Give it back; nothing of it may be under way."""
        self._resources.free()

    def _places(self, prepared: Sequence[Prepared]) -> list[Place]:
        """Where each slice's pixels lie; those without a place of their own are copied to the slot's."""
        sizes = [
            0 if isinstance(p, PinnedSlice) else kernel.aligned(kernel.stored_bytes(p.stored.shape)) for p in prepared
        ]
        memory = self._unpinned.at_least(sum(sizes)) if any(sizes) else None
        places, start = [], 0
        for one, nbytes in zip(prepared, sizes, strict=True):
            if isinstance(one, PinnedSlice):
                places.append(one.place)
                continue
            assert memory is not None
            places.append(Place(memory, start, nbytes))
            kernel.write_stored(one.stored, places[-1].host)
            start += nbytes
        return places

    def _drop_events(self) -> None:
        self.ready = self.done = None


def _about(slice_: Slice) -> tuple[kernel.Shape, Any]:
    return slice_.stored.shape, slice_.header.encoding

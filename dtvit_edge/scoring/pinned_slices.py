"""Page-locked memory that reader threads fill with slices, so that the device's owner thread copies no pixel."""

from __future__ import annotations

import threading
from bisect import insort
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import HostMemory
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import OutOfDeviceMemory
from dtvit_edge.preprocess import kernel
from dtvit_edge.spec import PixelEncoding

SLICE_BYTES = kernel.stored_bytes((512, 512))
# Slices a piece of memory: it takes milliseconds to lock one, so that a short run should not lock a long run's memory.
SEGMENT_SLICES = 16


class Place(NamedTuple):
    """Bytes of a piece of memory."""

    memory: HostMemory
    start: int
    nbytes: int

    @property
    def host(self) -> NDArray[np.uint8]:
        """(nbytes,) uint8."""
        return self.memory.host[self.start :][: self.nbytes]

    @property
    def address(self) -> int:
        """Of the device, where it maps the memory."""
        return self.memory.address + self.start


class PinnedSlice:
    """A slice whose pixels lie in page-locked memory; its place is free again when nobody holds the slice any more.

    Attributes:
        shape: (rows, columns); encoding: of its patterns.
    """

    def __init__(self, place: Place, shape: kernel.Shape, encoding: PixelEncoding, given_back: deque[Place]) -> None:
        self.place = place
        self.shape = shape
        self.encoding = encoding
        self._given_back = given_back

    def __del__(self) -> None:
        # Without a lock: the garbage collector may come in a thread that holds it.
        self._given_back.append(self.place)

    @property
    def stored(self) -> NDArray[np.uint16]:
        """Its pixels, a view that is good as long as the slice is held."""
        return kernel.read_stored(self.place.host, self.shape)


class PinnedSlices:
    """Pieces of memory, locked as they are needed, and who has which part of them; for any thread.

    It never waits for room: a reader that did could wait for slices that wait for its own. What has no place stays
    where it is, and costs the owner thread a copy.

    Args:
        slices: of 512 x 512, for which there is to be room.
    """

    def __init__(self, device: Device, slices: int) -> None:
        self._device = device
        self._most = -(-slices // SEGMENT_SLICES)
        self._segment_bytes = min(slices, SEGMENT_SLICES) * SLICE_BYTES
        self._segments: list[HostMemory] = []
        self._free: list[tuple[int, int, int]] = []  # number of the segment, start, end; in order, none touch
        self._given_back: deque[Place] = deque()
        # Nobody holds it while waiting for the owner thread, which takes it too.
        self._changed = threading.Condition(threading.Lock())
        self._locking = False  # a reader has asked the owner thread for a segment
        self._puts = 0  # under way
        self._closed = False

    def put(self, slice_: Slice) -> PinnedSlice | Slice:
        """The slice with its pixels in page-locked memory; the slice as it is where no room is left, or all is closed.

        Raises:
            DeviceFault: the device failed.
        """
        with self._changed:
            if self._closed:
                return slice_
            self._puts += 1
        try:
            place = self._place(kernel.aligned(kernel.stored_bytes(slice_.stored.shape)))
            if place is None:
                return slice_
            pinned = PinnedSlice(place, slice_.stored.shape, slice_.header.encoding, self._given_back)
            kernel.write_stored(slice_.stored, place.host)
            return pinned
        finally:
            with self._changed:
                self._puts -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Take no more slices, and wait for those that are being put; not in the owner thread, for which they wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._puts)

    def free(self) -> None:
        """Give the memory back, in the owner thread and closed; what was put here must not be used any more."""
        with self._changed:
            segments, self._segments, self._free, self._most = self._segments, [], [], 0
        for segment in segments:
            segment.free()

    def _place(self, nbytes: int) -> Place | None:
        """Room for a slice, in more memory where need be."""
        if nbytes > self._segment_bytes:
            return None
        while True:
            with self._changed:
                while (place := self._take(nbytes)) is None and self._locking and not self._closed:
                    self._changed.wait()
                if place is not None or self._closed or len(self._segments) >= self._most:
                    return place
                self._locking = True
            try:
                self._device.call(self._lock_more)
            except OutOfDeviceMemory:
                self._most = 0  # what there is remains
            finally:
                with self._changed:
                    self._locking = False
                    self._changed.notify_all()

    def _take(self, nbytes: int) -> Place | None:
        """The first place that is large enough."""
        while self._given_back:
            place = self._given_back.popleft()
            if place.memory in self._segments:
                self._merge(self._segments.index(place.memory), place.start, place.start + place.nbytes)
        for i, (number, start, end) in enumerate(self._free):
            if end - start >= nbytes:
                self._free[i : i + 1] = [(number, start + nbytes, end)] if end - start > nbytes else []
                return Place(self._segments[number], start, nbytes)
        return None

    def _merge(self, number: int, start: int, end: int) -> None:
        for part in list(self._free):
            if part[0] == number and (part[2] == start or part[1] == end):
                self._free.remove(part)
                start, end = min(start, part[1]), max(end, part[2])
        insort(self._free, (number, start, end))

    def _lock_more(self) -> None:
        """In the owner thread, as `free`: what is locked here is freed there, whichever comes first."""
        if len(self._segments) < self._most:
            segment = HostMemory(self._device, self._segment_bytes)
            with self._changed:
                self._segments.append(segment)
                self._free.append((len(self._segments) - 1, 0, segment.nbytes))


def neighbours(places: Sequence[Place]) -> list[tuple[HostMemory, int, int, list[int]]]:
    """Runs of places that follow each other: memory, start, end and which of `places`; one copy each."""
    runs: list[tuple[HostMemory, int, int, list[int]]] = []
    for i in sorted(range(len(places)), key=lambda i: (id(places[i].memory), places[i].start)):
        memory, start, nbytes = places[i]
        if runs and runs[-1][0] is memory and runs[-1][2] == start:
            runs[-1] = (memory, runs[-1][1], start + nbytes, [*runs[-1][3], i])
        else:
            runs.append((memory, start, start + nbytes, [i]))
    return runs

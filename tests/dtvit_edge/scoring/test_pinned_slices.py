"""Who has which part of the page-locked memory, whatever the order in which slices come and go."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dtvit_edge.cuda import memory
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import OutOfDeviceMemory
from dtvit_edge.scoring import pinned_slices as module
from dtvit_edge.scoring.pinned_slices import PinnedSlice, PinnedSlices, Place, neighbours
from dtvit_edge.spec import PixelEncoding


class Host:
    """Memory of the host as a device's would be; `left` pieces are to be had."""

    integrated = False

    def __init__(self, left: int = 100) -> None:
        self.left = left

    def call(self, function: Any, *arguments: Any) -> Any:
        if not self.left:
            raise OutOfDeviceMemory("no more")
        self.left -= 1
        host = SimpleNamespace(pagelocked_empty=lambda shape, dtype, mem_flags: np.zeros(shape, dtype))
        return memory.HostMemory(SimpleNamespace(cuda=host, integrated=False), arguments[1])  # type: ignore[arg-type]


def slice_of(seed: int, rows: int = 40, columns: int = 41) -> Slice:
    stored = np.random.default_rng(seed).integers(0, 1 << 16, (rows, columns), dtype=np.uint16)
    return Slice(SimpleNamespace(encoding=PixelEncoding()), stored)  # type: ignore[arg-type]


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> PinnedSlices:
    monkeypatch.setattr(module, "SLICE_BYTES", 4096)
    return PinnedSlices(Host(), 20)  # type: ignore[arg-type]


def test_no_two_slices_that_are_held_share_a_byte(pinned: PinnedSlices) -> None:
    rng = np.random.default_rng(1)
    held: dict[int, tuple[Any, Slice]] = {}
    refused = 0
    for seed in range(600):
        if held and rng.random() < 0.4:
            del held[int(rng.choice(list(held)))]
            continue
        slice_ = slice_of(seed, *(int(n) for n in rng.integers(32, 100, 2)))
        held[seed] = (pinned.put(slice_), slice_)
        refused += held[seed][0] is slice_
        for one, source in held.values():
            np.testing.assert_array_equal(one.stored, source.stored)
        assert all(one.place.start % 16 == 0 for one, _ in held.values() if isinstance(one, PinnedSlice))
    assert 0 < refused < 300, "there was room for most and not for all"


def test_what_is_dropped_makes_room_for_as_much_again(pinned: PinnedSlices) -> None:
    for _ in range(3):
        held = [pinned.put(slice_of(i, 32, 64)) for i in range(32)]
        assert all(isinstance(one, PinnedSlice) for one in held)
        assert not isinstance(pinned.put(slice_of(99, 64, 64)), PinnedSlice), "two pieces of 16 slices, no more"
        del held
        gc.collect()
    assert isinstance(pinned.put(slice_of(1, 200, 160)), PinnedSlice), "places that touch are one again"


def test_a_slice_that_is_too_large_or_memory_that_is_not_to_be_had_is_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICE_BYTES", 4096)
    host = Host(1)
    pinned = PinnedSlices(host, 1)  # type: ignore[arg-type]
    large, small = slice_of(0, 64, 64), slice_of(1, 32, 64)
    assert pinned.put(large) is large
    first = pinned.put(small)
    assert isinstance(first, PinnedSlice) and pinned.put(small) is small
    poor = PinnedSlices(Host(0), 100)  # type: ignore[arg-type]
    assert poor.put(small) is small and poor.put(small) is small


def test_places_that_follow_each_other_are_copied_at_once() -> None:
    one, other = object(), object()
    places = [Place(one, 64, 32), Place(other, 0, 16), Place(one, 0, 64), Place(one, 112, 16)]  # type: ignore[arg-type]
    runs = {(start, end): (memory, members) for memory, start, end, members in neighbours(places)}
    assert runs == {(0, 96): (one, [2, 0]), (112, 128): (one, [3]), (0, 16): (other, [1])}

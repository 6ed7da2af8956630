"""Who has which part of the page-locked memory, whatever the order in which slices come and go."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import OutOfDeviceMemory
from dtvit_edge.preprocess import kernel
from dtvit_edge.scoring import pinned_slices as module
from dtvit_edge.scoring.pinned_slices import PinnedSlice, PinnedSlices, Place, neighbours
from dtvit_edge.spec import PixelEncoding


class Host:
    """Memory of the host as a device's would be; `left` pieces are to be had."""

    integrated = False

    def __init__(self, left: int = 100) -> None:
        self.left = left

        self.cuda = SimpleNamespace(pagelocked_empty=self.lock)

    def call(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def lock(self, shape: tuple[int, ...], dtype: type, mem_flags: int) -> Any:
        if not self.left:
            raise OutOfDeviceMemory("no more")
        self.left -= 1
        return np.zeros(shape, dtype).view(Lent)


class Lent(np.ndarray[Any, Any]):
    """Memory as pycuda lends it: its base is what frees it."""

    @property
    def base(self) -> Any:
        return SimpleNamespace(free=lambda: self.fill(0x5A))


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


class Owner(Host):
    """A device with a thread of its own, as the real one; `asked` says that another waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.thread = ThreadPoolExecutor(1)

    def call(self, function: Any, *arguments: Any) -> Any:
        answer = self.thread.submit(function, *arguments)
        self.asked.set()
        return answer.result(5)


def test_closing_waits_for_a_slice_that_is_being_written_and_then_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = PinnedSlices(Host(), 2)  # type: ignore[arg-type]
    writing, goes_on, real = threading.Event(), threading.Event(), kernel.write_stored
    filled: list[bool] = []

    def write(stored: Any, host: Any) -> None:
        writing.set()
        assert goes_on.wait(5)
        filled.append(bool((host == 0x5A).all()))
        real(stored, host)

    monkeypatch.setattr(kernel, "write_stored", write)

    def close() -> None:
        pinned.close()
        pinned.free()

    slice_ = slice_of(1)
    with ThreadPoolExecutor(2) as pool:
        put = pool.submit(pinned.put, slice_)
        assert writing.wait(5)
        closed = pool.submit(close)
        assert not wait([closed], 0.1).done
        goes_on.set()
        assert isinstance(put.result(5), PinnedSlice)
        closed.result(5)
    assert pinned.put(slice_) is slice_ and filled == [False], "written once, and before the memory went"


@pytest.mark.parametrize("closes", [True, False], ids=["close", "free alone"])
def test_the_owner_thread_frees_while_readers_wait_for_it(closes: bool) -> None:
    owner, began, goes_on = Owner(), threading.Event(), threading.Event()
    pinned = PinnedSlices(owner, 2)  # type: ignore[arg-type]

    def busy() -> None:
        began.set()
        assert goes_on.wait(5)
        if not closes:
            pinned.free()

    with owner.thread, ThreadPoolExecutor(3) as pool:
        freed = owner.thread.submit(busy)
        assert began.wait(5)
        slices = [slice_of(i) for i in range(2)]
        puts = [pool.submit(pinned.put, slice_) for slice_ in slices]
        assert owner.asked.wait(5)
        closing = pool.submit(pinned.close) if closes else freed
        goes_on.set()
        freed.result(5)
        got = [put.result(5) for put in puts]
        closing.result(5)
        if closes:
            owner.call(pinned.free)
        else:
            assert got == slices and owner.left == 100, "none was locked after all had been freed"
    assert pinned.put(slices[0]) is slices[0]

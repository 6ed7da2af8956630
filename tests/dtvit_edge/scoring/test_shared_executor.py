"""Callers of one executor take turns, and nobody is given another one's answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.scoring.shared_executor import SharedExecutor
from dtvit_edge.spec import OUTPUT_SIZES


class Scripted:
    """An executor as the GPU's is, with two batches under way: it answers with the numbers that it was given."""

    batch, fixed, padded = 4, False, False

    def __init__(self) -> None:
        self.depth = 2
        self.under_way: deque[Sequence[int]] = deque()
        self.threads: set[int] = set()
        self.most = 0
        self.fails_at: int | None = None
        self.freed = 0

    def prepare(self, slice_: Any) -> Any:
        return slice_

    def submit(self, prepared: Sequence[int]) -> None:
        self.threads.add(threading.get_ident())
        self.under_way.append(prepared)
        self.most = max(self.most, len(self.under_way))
        assert len(self.under_way) <= self.depth

    def collect(self) -> BatchResult:
        batch = self.under_way.popleft()
        if self.fails_at in batch:
            raise DeviceFault("CUDA: an illegal address")
        numbers = np.array(batch)
        logits = {name: np.zeros((len(batch), size), np.float32) for name, size in OUTPUT_SIZES.items()}
        return BatchResult(numbers, numbers / 1.0, numbers > 0, logits)

    def prepared_bytes(self, slices: Any) -> NDArray[np.uint8]:
        assert not self.under_way, "the memory is in use"
        return np.zeros((len(slices), 1, 8, 8), np.uint8)

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        assert not self.under_way, "the input is in use"
        return {name: np.zeros((len(pixels), size), np.float32) for name, size in OUTPUT_SIZES.items()}

    def free(self) -> None:
        self.freed += 1


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(params=[1, 2], ids=["one under way", "two"])
def depth(request: pytest.FixtureRequest, scripted: Scripted) -> int:
    scripted.depth = request.param
    return scripted.depth


@pytest.fixture
def shared(scripted: Scripted) -> SharedExecutor:
    return SharedExecutor(scripted, scripted.free)


def test_batches_of_many_callers_come_back_to_them(depth: int, scripted: Scripted, shared: SharedExecutor) -> None:
    def call(caller: int) -> bool:
        view = shared.for_caller()
        for i in range(20):
            first, second = [caller, i, 1], [caller, i, 2, 3]
            view.submit(first)
            view.submit(second)
            if i % 7 == caller % 7:
                view.logits(np.zeros((1, 1, 8, 8), np.uint8))
            if view.collect().head_pixels.tolist() != first or view.collect().head_pixels.tolist() != second:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(8)))
    assert scripted.most == depth and len(scripted.threads) == 1
    shared.close()


def test_what_a_caller_no_longer_wants_is_dropped(depth: int, scripted: Scripted, shared: SharedExecutor) -> None:
    left = shared.for_caller()
    left.submit([1])
    left.submit([2])
    del left
    view = shared.for_caller()
    view.submit([3])
    assert view.collect().head_pixels.tolist() == [3]
    assert len(view.prepared_bytes([0, 0])) == 2
    assert not scripted.under_way


def test_a_device_that_failed_answers_nobody_any_more(scripted: Scripted, shared: SharedExecutor) -> None:
    scripted.fails_at = 7
    unlucky, other = shared.for_caller(), shared.for_caller()
    unlucky.submit([7])
    other.submit([1])
    with pytest.raises(DeviceFault, match="illegal address"):
        other.collect()
    for view in (unlucky, other):
        with pytest.raises(DeviceFault, match=r"failed before .*illegal address.*; close it"):
            view.collect()
    with pytest.raises(DeviceFault, match="failed before"):
        shared.for_caller().submit([2])
    shared.close()
    assert scripted.freed == 1


def test_it_is_freed_once_and_says_so(scripted: Scripted, shared: SharedExecutor) -> None:
    view = shared.for_caller()
    view.submit([1])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: shared.close(), range(8)))
    assert scripted.freed == 1
    for call in (view.collect, shared.for_caller, lambda: view.submit([2])):
        with pytest.raises(ConfigError, match="the model is closed"):
            call()


def test_a_collection_of_garbage_in_its_own_thread_can_close_it(scripted: Scripted, shared: SharedExecutor) -> None:
    shared.alone(shared.close)
    assert scripted.freed == 1

"""Order, bounds and errors of work done ahead."""

from __future__ import annotations

import threading
import time

import pytest

from dtvit_edge.scoring.prefetch import Prefetcher


def test_results_come_in_the_items_order() -> None:
    with Prefetcher(range(50), lambda i: (time.sleep(0.002 * (i % 3)), i)[1], workers=4, ahead=7) as prefetcher:
        taken = []
        while not prefetcher.finished:
            taken += prefetcher.take(3)
    assert taken == list(range(50))


def test_without_workers_the_caller_works_and_errors_come_where_results_are_taken() -> None:
    def work(i: int) -> int:
        if i == 2:
            raise KeyError(i)
        return threading.get_ident()

    with Prefetcher(range(4), work, workers=0, ahead=2) as prefetcher:
        assert prefetcher.take(2) == [threading.get_ident()] * 2
        with pytest.raises(KeyError):
            prefetcher.take(1)


def test_no_more_is_under_way_than_asked_for() -> None:
    begun: list[int] = []
    with Prefetcher(range(100), begun.append, workers=4, ahead=5) as prefetcher:
        deadline = time.monotonic() + 10
        while prefetcher.ready() < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sorted(begun) == [0, 1, 2, 3, 4]
        prefetcher.take(2)
        while prefetcher.ready() < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sorted(begun) == list(range(7))


def test_ready_counts_those_at_the_front_alone() -> None:
    first = threading.Event()
    with Prefetcher([0, 1, 2], lambda i: first.wait(10) if i == 0 else i, workers=3, ahead=3) as prefetcher:
        time.sleep(0.05)
        assert prefetcher.ready() == 0, "the first is not done"
        first.set()
        assert prefetcher.take(3) == [True, 1, 2]
        assert prefetcher.finished and prefetcher.take(1) == []


def test_an_error_is_raised_where_its_result_would_be_and_closing_drops_the_rest() -> None:
    begun = []

    def work(i: int) -> int:
        begun.append(i)
        if i == 2:
            raise ValueError("two")
        return i

    with pytest.raises(ValueError, match="two"), Prefetcher(range(1000), work, workers=1, ahead=4) as prefetcher:
        assert prefetcher.take(2) == [0, 1]
        prefetcher.take(1)
    assert len(begun) <= 7

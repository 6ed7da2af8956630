"""Sides of a comparison, timed in one process in alternating rounds: whatever else the machine does falls on all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

WARM_UP_RUNS = 3
LEAST_ROUNDS = 10


def alternate(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    runs: int,
    *,
    warm_up: int = WARM_UP_RUNS,
    lead: int = 0,
    pause_s: float = 0.0,
) -> dict[str, list[float]]:
    """Milliseconds by side, one sample a round: the median of `runs` calls. Who is first goes round.

    Args:
        warm_up: how often each is called before anything is timed.
        lead: how often a side is called, untimed, right before each of its samples.
        pause_s: before these, so that threads of the side before have stopped waiting for more work.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    sides = list(calls)
    samples: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(rounds):
        first = round_ % len(sides)
        for side in sides[first:] + sides[:first]:
            if pause_s:
                time.sleep(pause_s)
            for _ in range(lead):
                calls[side]()
            samples[side].append(median_ms(calls[side], runs))
    return samples


def median_ms(call: Callable[[], object], runs: int) -> float:
    """The median of so many calls, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)

"""Contenders, timed in one process in alternating rounds, so that what else the machine does falls on all."""

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
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds by contender, one sample a round: the median of `runs` calls. Who is first goes round.

    Args:
        warm_up: how often each is called before anything is timed.
        lead: how often a contender is called, untimed, right before each of its samples.
        pause_s: before these, so that threads of the contender before have stopped waiting for more work.
        clock: gives seconds; of a process or a thread it leaves out what others do meanwhile.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    contenders = list(calls)
    samples: dict[str, list[float]] = {contender: [] for contender in contenders}
    for round_ in range(rounds):
        first = round_ % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            if pause_s:
                time.sleep(pause_s)
            for _ in range(lead):
                calls[contender]()
            samples[contender].append(median_ms(calls[contender], runs, clock))
    return samples


def median_ms(call: Callable[[], object], runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The median of so many calls, in milliseconds."""
    times = []
    for _ in range(runs):
        start = clock()
        call()
        times.append((clock() - start) * 1e3)
    return statistics.median(times)

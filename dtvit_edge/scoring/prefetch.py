"""Work done ahead in threads: results come in order, and never more of them wait than are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

from dtvit_edge.environment import usable_cores

MOST_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """As many as this process may use cores, up to `MOST_WORKERS`."""
    return min(usable_cores(), MOST_WORKERS)


class Prefetcher(Generic[Item, Result]):
    """Items through a function in worker threads; a context manager, whose end drops what nobody took.

    Args:
        items: taken one by one, as room becomes free.
        work: called in a worker; what it raises is raised where its result would have been taken.
        workers: threads; with 0 the caller's own thread works, where there is less to do than a thread costs.
        ahead: results that are under way or wait to be taken, at most; the memory that the prefetcher holds.
    """

    def __init__(self, items: Iterable[Item], work: Callable[[Item], Result], workers: int, ahead: int) -> None:
        self._items: Iterator[Item] = iter(items)
        self._work = work
        self._ahead = max(ahead, 1)
        self._pool: Executor = _CallersThread()
        if workers:
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetcher")
        self._queue: deque[Future[Result]] = deque()

    def __enter__(self) -> Prefetcher[Item, Result]:
        self._fill()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._queue.clear()

    @property
    def finished(self) -> bool:
        """Nothing is left to take."""
        return not self._queue

    def ready(self) -> int:
        """Results that `take` gives without waiting."""
        count = 0
        for future in self._queue:
            if not future.done():
                break
            count += 1
        return count

    def take(self, count: int) -> list[Result]:
        """The next results, in the items' order; waits for them. Fewer at the end."""
        taken: list[Result] = []
        while len(taken) < count and self._queue:
            taken.append(self._queue[0].result())  # may raise: what is not taken stays in the queue
            self._queue.popleft()
            self._fill()
        return taken

    def _fill(self) -> None:
        while len(self._queue) < self._ahead:
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._queue.append(self._pool.submit(self._work, item))


class _CallersThread(Executor):
    """Works where it is asked to."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments, **more))
        except BaseException as error:  # raised where the result is taken, as from a thread
            done.set_exception(error)
        return done

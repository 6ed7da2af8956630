"""Images to workers and their rows back: what goes where, and what is done when a worker or its device fails.

Nothing here knows of Ray: a `Pool` is asked for workers, and tells what became of what it was given. An item is
answered once, whatever a worker says twice.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeAlias

from dtvit_edge import reasons
from dtvit_edge.cluster.items import Item, items_of
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.errors import DeviceFault, SliceRejected
from dtvit_edge.reasons import REASONS, Status
from dtvit_edge.scoring.pipeline import MOST_FAULTS_IN_A_ROW, ScoredBatch

# So many images in a row that nobody could answer are no crafted files any more: the workers are of no use.
MOST_LOST_IN_A_ROW = 64
# Items that a worker has at once: one is read while the other is computed.
AT_ONCE = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """A worker's answer; what is in it has not been looked at."""

    ticket: int
    rows: Any


@dataclass(frozen=True)
class Faulted:
    """A worker's device failed; the pool has replaced the worker."""

    ticket: int
    message: str


@dataclass(frozen=True)
class Lost:
    """A worker ended, or stood still and was ended; the pool has replaced it."""

    tickets: tuple[int, ...]
    why: str


Event: TypeAlias = Answered | Faulted | Lost


class Pool(Protocol):
    """Workers, wherever they are; they come and go."""

    @property
    def ready(self) -> Sequence[int]:
        """Workers that can be given work, by number; a number is never given again."""
        ...

    def submit(self, worker: int, ticket: int, images: Sequence[SliceImage]) -> None:
        """Give a worker a run of images under a new number."""
        ...

    def replace(self, worker: int, why: str) -> None:
        """End a worker and begin another; what it had under way has no event any more."""
        ...

    def wait(self) -> list[Event]:
        """What has happened; waits for something, a worker that became ready included.

        Raises:
            DeviceFault: there are no workers, and no more can be begun.
        """
        ...

    def check(self, images: Sequence[SliceImage]) -> None:
        """Before the first of a plan's images: do the workers see these files as they were planned?

        Raises:
            ConfigError: one does not.
        """
        ...


class Dispatcher:
    """An `opened.ImagePipeline` whose work is done by a pool.

    Args:
        size: images an item.
        rejected: told of every slice that cannot be scored.
    """

    def __init__(
        self, pool: Pool, size: int, rejected: Callable[[SliceHeader, SliceRejected], None] = lambda header, error: None
    ) -> None:
        self._pool = pool
        self._size = size
        self._rejected = rejected
        self._under_way: dict[int, tuple[int, Item]] = {}
        self._suspects: deque[Item] = deque()
        self._tickets = 0
        self._faults_in_a_row = 0
        self._lost_in_a_row = 0

    @property
    def in_flight(self) -> list[SliceImage]:
        """The images that were given to workers and not answered."""
        items = [item for _, item in self._under_way.values()] + list(self._suspects)
        return [image for item in items for image in item.images]

    def __call__(self, images: Iterable[SliceImage]) -> Iterator[ScoredBatch]:
        """Answer each image once, item by item as they are answered.

        Raises:
            ConfigError: a worker does not see the files.
            DeviceFault: a device failed again and again, or no worker is left.
        """
        source = items_of(images, self._size)
        first = next(source, None)
        if first is None:
            return
        self._pool.check(first.images)
        waiting = chain([first], source)
        is_more = True
        while True:
            is_more = self._fill(waiting) and is_more
            if not (is_more or self._under_way or self._suspects):
                return
            for event in self._pool.wait():
                for batch in self._after(event):
                    self._look_at(batch)
                    yield batch

    def _fill(self, waiting: Iterator[Item]) -> bool:
        """Give the workers what they can take; False once nothing waits any more."""
        load = {worker: [item for w, item in self._under_way.values() if w == worker] for worker in self._pool.ready}
        idle = [worker for worker, items in load.items() if not items]
        while self._suspects and idle:
            item = self._suspects.popleft()
            worker = idle.pop(0)
            load[worker].append(item)
            self._submit(worker, item)
        if self._suspects and load:  # one worker becomes idle for them
            load.pop(min(load, key=lambda worker: (any(item.is_suspect for item in load[worker]), len(load[worker]))))
        # Each gets its first before any gets its second.
        for level in range(AT_ONCE):
            for worker, items in load.items():
                if len(items) == level and not any(item.is_suspect for item in items):
                    item_or_none = next(waiting, None)
                    if item_or_none is None:
                        return False
                    items.append(item_or_none)
                    self._submit(worker, item_or_none)
        return True

    def _submit(self, worker: int, item: Item) -> None:
        self._tickets += 1
        self._under_way[self._tickets] = worker, item
        self._pool.submit(worker, self._tickets, item.images)

    def _after(self, event: Event) -> list[ScoredBatch]:
        if isinstance(event, Lost):
            log.warning("a worker was lost (%s): what it had under way is tried again", event.why)
            lost = [self._under_way.pop(ticket) for ticket in event.tickets if ticket in self._under_way]
            return [batch for _, item in lost for batch in self._again(item)]
        if event.ticket not in self._under_way:  # answered before, or of a worker that was given up
            return []
        worker, item = self._under_way.pop(event.ticket)
        if isinstance(event, Faulted):
            # What went beside it was not at fault, and its worker is gone.
            self._suspects.extend(self._drop(worker))
            again = item.after_fault()
            if again is None:
                self._suspects.append(item)
                raise DeviceFault(event.message)
            log.warning("a worker's device failed: what it had under way is tried again on another worker")
            self._suspects.append(again)
            return []
        if (batch := item.answered(event.rows)) is not None:
            self._lost_in_a_row = 0
            return [batch]
        why = "its answer is not one to what it was asked"
        self._pool.replace(worker, why)
        log.warning("a worker was given up: %s", why)
        self._suspects.extend(self._drop(worker))
        return self._again(item)

    def _again(self, item: Item) -> list[ScoredBatch]:
        """Try an item again, in halves where it has to be; or its answer, where it is at fault itself.

        Raises:
            DeviceFault: so are too many, one after the other.
        """
        again = item.after_loss()
        self._suspects.extend(again)
        if again:
            return []
        self._lost_in_a_row += 1
        if self._lost_in_a_row == MOST_LOST_IN_A_ROW:
            raise DeviceFault(
                f"{MOST_LOST_IN_A_ROW} images in a row ended every worker that had them; Ray's logs say more"
            )
        log.warning("%d slices of one image ended every worker that read them: they are errors", len(item.images))
        return [item.lost()]

    def _drop(self, worker: int) -> list[Item]:
        """What else a worker had that is gone."""
        tickets = [ticket for ticket, (w, _) in self._under_way.items() if w == worker]
        return [self._under_way.pop(ticket)[1] for ticket in tickets]

    def _look_at(self, batch: ScoredBatch) -> None:
        """Tell of rejected slices; answers that are not finite, again and again, are no chance.

        Raises:
            DeviceFault: so it is.
        """
        for image, rows in zip(batch.of, batch.images, strict=True):
            for header, row in zip(image.headers, rows, strict=True):
                if row.status is not Status.SCORED:
                    self._rejected(header, SliceRejected(REASONS[row.reason]))
            if any(row.reason == reasons.MODEL_FAULT.code for row in rows):
                self._faults_in_a_row += 1
            elif any(row.status is Status.SCORED for row in rows):
                self._faults_in_a_row = 0
            if self._faults_in_a_row == MOST_FAULTS_IN_A_ROW:
                raise DeviceFault(
                    f"the workers answer {MOST_FAULTS_IN_A_ROW} images in a row with numbers that are not finite; look "
                    "at the model with `dtvit-edge verify`"
                )

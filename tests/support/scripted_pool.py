"""A pool of workers that do as a test says, for the dispatcher: what Ray's actors do, without their processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dtvit_edge.cluster.dispatch import Answered, Event, Lost
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.reasons import Status
from dtvit_edge.results import Identity, SliceScore, slice_row
from dtvit_edge.spec import PixelEncoding


def images(count: int, *, thin: int = 1) -> list[SliceImage]:
    """Images of so many slices each."""
    return [SliceImage(tuple(_header(i * thin + j) for j in range(thin)), i + 1) for i in range(count)]


def answer(given: Sequence[SliceImage]) -> list[tuple[SliceScore, ...]]:
    """What a worker says of images: all of them are scored."""
    return [
        tuple(
            slice_row(h.identity, h.frame, h.path, Status.SCORED, ich_probability=0.25, ich=False, place=image.place)
            for h in image.headers
        )
        for image in given
    ]


class ScriptedPool:
    """Answers what it was given, in order, as `script` has it.

    Args:
        script: called with a ticket, its worker and its images; gives the event, or None for a worker that is lost.

    Attributes:
        given: of each ticket its worker and images; together: the tickets that were with a worker when it was lost.
    """

    def __init__(self, workers: int, script: Callable[[int, int, Sequence[SliceImage]], Event | None]) -> None:
        self._script = script
        self._next = workers
        self._ready = list(range(workers))
        self._queue: deque[tuple[int, int, Sequence[SliceImage]]] = deque()
        self.given: dict[int, tuple[int, Sequence[SliceImage]]] = {}
        self.together: list[tuple[int, ...]] = []
        self.checked = 0

    @property
    def ready(self) -> Sequence[int]:
        return list(self._ready)

    def submit(self, worker: int, ticket: int, images: Sequence[SliceImage]) -> None:
        assert worker in self._ready and ticket not in self.given
        self.given[ticket] = worker, images
        self._queue.append((ticket, worker, images))

    def replace(self, worker: int, why: str) -> None:
        self._queue = deque(entry for entry in self._queue if entry[1] != worker)
        self._ready.remove(worker)
        self._ready.append(self._next)
        self._next += 1

    def wait(self) -> list[Event]:
        ticket, worker, given = self._queue.popleft()
        event = self._script(ticket, worker, given)
        if event is not None:
            return [event]
        tickets = (ticket, *(other for other, w, _ in self._queue if w == worker))
        self.together.append(tickets)
        self.replace(worker, "")
        return [Lost(tickets, "it ended")]

    def check(self, images: Sequence[SliceImage]) -> None:
        self.checked += 1


def answers(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
    """A script of workers that do what they should."""
    return Answered(ticket, answer(given))


def rows_of(batches: Sequence[Any]) -> dict[str, SliceScore]:
    """The rows of a dispatcher's batches by path; none comes twice."""
    rows = [row for batch in batches for row in batch.rows]
    assert len({row.path for row in rows}) == len(rows), "a slice was answered twice"
    return {row.path: row for row in rows}


def _header(number: int) -> SliceHeader:
    uids = Identity("2.25.1", "2.25.2", f"2.25.3.{number}")
    return SliceHeader(Path(f"/data/{number}"), str(number), uids, 1, 1, 64, 64, PixelEncoding())

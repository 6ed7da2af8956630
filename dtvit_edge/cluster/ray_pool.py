"""A pool of Ray actors, each with a bundle open; see `dispatch.Pool`.

Ray restarts nothing and tries nothing again by itself: what is tried again, how often and in what company is the
dispatcher's. An actor that ends is replaced by a new one, which begins wherever there is room, or when a machine comes
back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtvit_edge.cluster.dispatch import AT_ONCE, Answered, Event, Faulted, Lost
from dtvit_edge.cluster.worker import Failed, Opened, Order, Refused, Worker
from dtvit_edge.dicom.planned_file import present_state
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.scoring.identity import differences

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long something may take.

    Attributes:
        stalled_s: without a slice read or a batch answered; a decoder is given up after 30 s by its own process.
        opening_s: from an actor's begin until its bundle is open.
        joining_s: after the first one is open, for the others; later ones join the run when they are.
        alone_s: without any actor that is open, as after the loss of a machine.
        poll_s: between two looks at what stands still.
        failures: actors in a row that end before they are open.
    """

    stalled_s: float = 120.0
    opening_s: float = 600.0
    joining_s: float = 30.0
    alone_s: float = 300.0
    poll_s: float = 5.0
    failures: int = 3


@dataclass
class _Actor:
    handle: Any
    begun: float
    opening: Any = None
    opened: Opened | None = None
    scoring: dict[Any, int] = field(default_factory=dict)
    asked: Any = None
    done: int = -1
    moved: float = 0.0


class RayPool:
    """Actors; `open` before anything else.

    Args:
        ray: the module, connected.
        resources: of each actor, as `ray.remote` takes them.
        count: actors.
        packed: gives the bundle's files, for machines that have it not.
        mixed: take workers whose results depend on other things than the first one's.
    """

    def __init__(
        self,
        ray: Any,
        order: Order,
        resources: dict[str, Any],
        count: int,
        packed: Callable[[str], dict[str, bytes]],
        *,
        mixed: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._ray = ray
        self._order = order
        self._class = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=AT_ONCE + 1, **resources)(Worker)
        self._count = count
        self._packed = packed
        self._mixed = mixed
        self._limits = limits or Limits()
        self._actors: dict[int, _Actor] = {}
        self._numbers = 0
        self._sent: Any = None
        self._failures = 0
        self._alone_since = time.monotonic()
        self._sample: list[tuple[str, Any]] = []
        self.first: Opened | None = None
        self.machines: dict[str, dict[str, Any]] = {}

    def open(self) -> Opened:
        """Begin the actors, and wait until one is open, and for all that are there at once.

        Returns:
            What the first one opened; the others open the same.

        Raises:
            ConfigError: a worker cannot open the bundle, or differs from the first one; or none can be begun.
        """
        for _ in range(self._count):
            self._begin()
        deadline = time.monotonic() + self._limits.opening_s
        first = next(iter(self._actors.values()))
        self._ask_to_open(first)
        while self.first is None:
            self._step_opening(deadline, strict=True)
        # What has no place yet (a machine that is to come) opens when it has one.
        until = time.monotonic() + self._limits.joining_s
        while any(a.opening is not None for a in self._actors.values()) and self._step_opening(until, strict=True):
            pass
        return self.first

    @property
    def ready(self) -> Sequence[int]:
        """See `Pool.ready`."""
        return [number for number, actor in self._actors.items() if actor.opened is not None]

    def submit(self, worker: int, ticket: int, images: Sequence[SliceImage]) -> None:
        """See `Pool.submit`."""
        actor = self._actors[worker]
        if not actor.scoring:
            actor.moved, actor.done = time.monotonic(), -1
        actor.scoring[actor.handle.score.remote(list(images))] = ticket

    def replace(self, worker: int, why: str) -> None:
        """See `Pool.replace`."""
        actor = self._actors.pop(worker, None)
        if actor is not None:
            self._kill(actor)
            self._begin_anew()

    def check(self, images: Sequence[SliceImage]) -> None:
        """See `Pool.check`."""
        # What has changed since it was planned is a row like any other, and says nothing of the worker.
        headers = [header for image in images for header in image.headers][:64]
        self._sample = [(str(h.file), h.state) for h in headers if h.state and present_state(h.file) == h.state]
        for actor in [self._actors[number] for number in self.ready]:
            self._require_seen(actor)

    def wait(self) -> list[Event]:
        """See `Pool.wait`."""
        refs = [r for a in self._actors.values() for r in (*a.scoring, a.opening, a.asked) if r is not None]
        if not refs:
            raise DeviceFault("no worker is left: each one that was begun ended, or could not open the bundle")
        done, _ = self._ray.wait(refs, num_returns=1, timeout=self._limits.poll_s)
        events = [event for ref in done for event in self._after(ref)]
        events += self._look_at_those_that_stand_still()
        if self.ready:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self._limits.alone_s:
            raise DeviceFault(f"no worker could be begun within {self._limits.alone_s:.0f} s")
        return events

    def close(self) -> None:
        """End every actor."""
        for actor in self._actors.values():
            self._kill(actor)
        self._actors.clear()

    def _begin(self) -> _Actor:
        self._numbers += 1
        self._actors[self._numbers] = actor = _Actor(self._class.remote(), time.monotonic())
        return actor

    def _begin_anew(self) -> None:
        self._ask_to_open(self._begin())

    def _ask_to_open(self, actor: _Actor) -> None:
        actor.opening = actor.handle.open.remote(self._order)

    def _kill(self, actor: _Actor) -> None:
        try:
            self._ray.kill(actor.handle)
        except Exception as error:  # it has ended by itself
            log.debug("a worker could not be ended: %s", type(error).__name__)

    def _step_opening(self, deadline: float, *, strict: bool) -> bool:
        """Wait for an actor to open; False where the time is over."""
        refs = [a.opening for a in self._actors.values() if a.opening is not None]
        done, _ = self._ray.wait(refs, num_returns=1, timeout=max(deadline - time.monotonic(), 0)) if refs else ([], [])
        if not done and self.first is None:
            raise ConfigError(
                "no worker could be begun: Ray has no room for one, or its machines have no dtvit-edge; `ray status` "
                "says what is free"
            )
        for ref in done:
            self._after(ref, strict=strict)
        return bool(done)

    def _after(self, ref: Any, *, strict: bool = False) -> list[Event]:
        number, actor = next((n, a) for n, a in self._actors.items() if ref in (*a.scoring, a.opening, a.asked))
        try:
            said = self._ray.get(ref)
        except Exception as error:  # of Ray: the actor, its machine or its process is gone
            return self._lost(number, type(error).__name__, strict=strict)
        if ref == actor.asked:
            actor.asked = None
            if said != actor.done:
                actor.done, actor.moved = said, time.monotonic()
            return []
        if ref == actor.opening:
            self._opened(number, actor, said, strict=strict)
            return []
        ticket = actor.scoring.pop(ref)
        if isinstance(said, Failed):
            self.replace(number, said.message)
            return [Faulted(ticket, said.message)]
        actor.moved = time.monotonic()
        return [Answered(ticket, said)]

    def _opened(self, number: int, actor: _Actor, said: Any, *, strict: bool) -> None:
        actor.opening = None
        if isinstance(said, Refused) and said.absent and self._sent is None:
            self._sent = self._ray.put(self._packed(self._order.options.precision))
        if isinstance(said, Refused) and said.absent:
            actor.opening = actor.handle.open.remote(self._order, self._sent)
            return
        refusal = said.message if isinstance(said, Refused) else self._differs(said)
        if refusal:
            self._refuse(number, f"the worker on {said.host} is refused: {refusal}", strict=strict)
            return
        actor.opened = said
        self._failures = 0
        if self.first is None:
            self.first = said
            self._order = Order(**{**vars(self._order), "options": said.options, "begun": None})
            for other in self._actors.values():
                if other.opened is None and other.opening is None:
                    self._ask_to_open(other)
        elif self._sample:
            try:
                self._require_seen(actor)
            except ConfigError as error:
                self._refuse(number, str(error), strict=False)
                return
        known = self.machines.setdefault(said.host, {**said.machine, "workers": 0})
        known["workers"] += 1

    def _differs(self, said: Opened) -> str:
        if self.first is None or self._mixed or said.identity == self.first.identity:
            return ""
        return (
            f"it would answer with something else than the first ({differences(self.first.identity, said.identity)}); "
            "--mixed takes it all the same, and its answers within tolerance"
        )

    def _refuse(self, number: int, message: str, *, strict: bool) -> None:
        """Before the first file a worker that cannot be used ends the run; later ones are left out, and that is said.

        Raises:
            ConfigError: before the first file.
        """
        if strict:
            raise ConfigError(message)
        log.warning("%s", message)
        self._kill(self._actors.pop(number))

    def _require_seen(self, actor: _Actor) -> None:
        """The first files of the plan are there as they were planned.

        Raises:
            ConfigError: they are not.
        """
        try:
            seen = self._ray.get(actor.handle.sees.remote(self._sample), timeout=self._limits.stalled_s)
        except Exception:  # it has ended, which its next answer says
            return
        if seen < len(self._sample):
            assert actor.opened is not None
            raise ConfigError(
                f"the worker on {actor.opened.host} does not see the files as they were planned here "
                f"({seen} of the first {len(self._sample)}): the folders have to be mounted under the same path there"
            )

    def _lost(self, number: int, why: str, *, strict: bool = False) -> list[Event]:
        actor = self._actors.pop(number)
        self._kill(actor)
        tickets = tuple(actor.scoring.values())
        if actor.opened is None:
            self._failures += 1
            if strict and self._failures >= self._limits.failures:
                raise ConfigError(f"a worker ends whenever it is begun ({why}); its log is in Ray's folder")
            if self._failures >= self._limits.failures * max(self._count, 1):
                return [Lost(tickets, why)] if tickets else []
        self._begin_anew()
        return [Lost(tickets, why)] if tickets else []

    def _look_at_those_that_stand_still(self) -> list[Event]:
        now, events = time.monotonic(), []
        for number, actor in list(self._actors.items()):
            if not actor.scoring:
                continue
            if now - actor.moved > self._limits.stalled_s:
                events += self._lost(number, f"it stood still for {self._limits.stalled_s:.0f} s")
            elif actor.asked is None and now - actor.moved > self._limits.poll_s:
                actor.asked = actor.handle.done.remote()
        return events

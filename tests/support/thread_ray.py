"""What the pool of workers uses of Ray, with threads for processes: actors, `wait`, `get`, `put` and `kill`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any


class ActorDied(Exception):
    """As Ray's, of the same meaning."""


class ThreadRay:
    """A module `ray` whose actors are objects with threads.

    Args:
        room: actors that there is room for; others begin once one of them has ended.

    Attributes:
        begun: every actor so far; put_objects: what was sent.
    """

    def __init__(self, room: int = 99) -> None:
        self._room = room
        self._places = threading.Semaphore(room)
        self.begun: list[_Handle] = []
        self.put_objects: list[Any] = []
        self.asked: dict[str, Any] = {}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        self.asked = options

        def decorate(kind: type) -> Any:
            ray = self

            class Actors:
                @staticmethod
                def remote() -> _Handle:
                    handle = _Handle(ray, kind, int(options["max_concurrency"]))
                    ray.begun.append(handle)
                    return handle

            return Actors

        return decorate

    def wait(self, refs: Sequence[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        done, _ = wait(refs, timeout=timeout, return_when=FIRST_COMPLETED)
        first = [ref for ref in refs if ref in done][:num_returns]
        return first, [ref for ref in refs if ref not in first]

    def get(self, ref: Any, timeout: float | None = None) -> Any:
        return ref.result(timeout) if isinstance(ref, Future) else ref

    def put(self, value: Any) -> Any:
        self.put_objects.append(value)
        return value

    def kill(self, handle: _Handle) -> None:
        handle.end()

    def close(self) -> None:
        """End everything."""
        for handle in self.begun:
            handle.end()

    def take_place(self, ended: threading.Event) -> bool:
        """Wait for room; False where the actor was ended meanwhile."""
        while not ended.is_set():
            if self._places.acquire(timeout=0.02):
                return True
        return False

    def leave_place(self) -> None:
        self._places.release()


class _Handle:
    """An actor: what its methods raise is that it died."""

    def __init__(self, ray: ThreadRay, kind: type, threads: int) -> None:
        self._ray = ray
        self._threads = ThreadPoolExecutor(threads)
        self._object: Any = None
        self._kind = kind
        self._beginning = threading.Lock()
        self._ended = threading.Event()
        self._futures: list[Future[Any]] = []

    def __getattr__(self, name: str) -> Any:
        handle = self

        class Method:
            @staticmethod
            def remote(*arguments: Any) -> Future[Any]:
                future: Future[Any] = Future()
                handle._futures.append(future)
                try:
                    handle._threads.submit(handle._call, future, name, arguments)
                except RuntimeError:  # ended meanwhile: Ray says so when the answer is asked for
                    _settle(future, error=ActorDied())
                return future

        return Method

    def end(self) -> None:
        """As SIGKILL: nothing that was under way is answered."""
        if self._ended.is_set():
            return
        self._ended.set()
        for future in self._futures:
            _settle(future, error=ActorDied())
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._object is not None:
            self._ray.leave_place()

    def _call(self, future: Future[Any], name: str, arguments: tuple[Any, ...]) -> None:
        with self._beginning:
            if self._object is None and self._ray.take_place(self._ended):
                self._object = self._kind()
        try:
            _settle(future, getattr(self._object, name)(*arguments))
        except SystemExit:
            self.end()
        except BaseException as error:
            _settle(future, error=error)


def _settle(future: Future[Any], result: Any = None, *, error: BaseException | None = None) -> None:
    if not future.done():
        future.set_result(result) if error is None else future.set_exception(error)

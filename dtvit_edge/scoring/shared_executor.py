"""One executor for callers in many threads: they take turns, batch by batch, and each gets the answers to its own.

What the executor does it does in one thread of its own. So no caller sees another's batch, an interrupt of a caller
ends its waiting and never the work, and what a caller no longer wants is dropped by the next one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import ConfigError, DeviceFault
from dtvit_edge.scoring.executor import BatchResult, Executor

CLOSED = "the model is closed; `open` opens it again"
# Neither threads nor a GPU's context live on in a fork, and to wait for them would never end.
FORKED = "the model was opened in another process, before a fork; open one here"

Answer = TypeVar("Answer")

# What a fork has of its parent's models: to free them would ask threads that are not there.
_of_the_parent: list[object] = []


class SharedExecutor:
    """An opened executor that many callers use, each through a view of its own (`for_caller`).

    Args:
        executor: opened; nobody else uses it.
        free: closes it, and what it needs.
    """

    def __init__(self, executor: Executor, free: Callable[[], None]) -> None:
        self._executor = executor
        self._free = free
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="open-model")
        self._thread_ident: int | None = None
        self._closing = threading.Lock()
        self._closed = False
        # For the thread alone, in order of submission.
        self._under_way: deque[_Batch] = deque()
        self._fault = ""

    def for_caller(self) -> CallersExecutor:
        """An executor for one caller; several may be in use at once.

        Raises:
            ConfigError: it is closed, or this process is a fork.
        """
        self._check()
        return CallersExecutor(self, self._executor)

    def submit(self, prepared: Sequence[Any]) -> _Batch:
        """Begin a batch; see `Executor.submit`."""
        return self._run(self._submit, prepared)

    def collect(self, batch: _Batch) -> BatchResult:
        """Wait for a batch; see `Executor.collect`."""
        return self._run(self._collect, batch)

    def answer(self, prepared: Sequence[Any]) -> BatchResult:
        """Begin a batch and wait for it, of an executor that has one under way at most."""
        return self._run(self._answer, prepared)

    def alone(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What a function says while no batch is under way."""
        return self._run(self._alone, function, *arguments)

    def close(self) -> None:
        """Wait for what is being computed, and free everything; who still asks afterwards is told so."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if os.getpid() != self._process:
            _of_the_parent.append(self._free)
        elif threading.get_ident() == self._thread_ident:  # a collection of garbage came upon it amid its own work
            self._end()
            self._thread.shutdown(wait=False)
        else:
            try:
                ended = self._thread.submit(self._end)
            except RuntimeError:  # Python ends, and has ended the thread
                self._end()
                return
            try:
                ended.result()
            finally:
                self._thread.shutdown(wait=ended.done())  # an interrupt does not wait

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise ConfigError(FORKED)
        if self._closed:
            raise ConfigError(CLOSED)

    def _run(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        self._check()
        try:
            future = self._thread.submit(self._guarded, function, arguments)
        except RuntimeError as error:  # closed by another thread in between
            raise ConfigError(CLOSED) from error
        return future.result()

    def _guarded(self, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
        self._thread_ident = threading.get_ident()
        if self._closed:
            raise ConfigError(CLOSED)
        if self._fault:
            raise DeviceFault(self._fault)
        return function(*arguments)

    def _submit(self, prepared: Sequence[Any]) -> _Batch:
        while len(self._under_way) >= self._executor.depth:
            self._collect_oldest()
        batch = _Batch()
        self._noting_faults(self._executor.submit, prepared)
        self._under_way.append(batch)
        return batch

    def _collect(self, batch: _Batch) -> BatchResult:
        while batch.result is None:
            self._collect_oldest()
        return batch.result

    def _answer(self, prepared: Sequence[Any]) -> BatchResult:
        self._noting_faults(self._executor.submit, prepared)
        return self._noting_faults(self._executor.collect)

    def _alone(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        while self._under_way:
            self._collect_oldest()
        return function(*arguments)

    def _collect_oldest(self) -> None:
        self._under_way[0].result = self._noting_faults(self._executor.collect)
        self._under_way.popleft()

    def _noting_faults(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What comes after a failure is none of the batches that wait: nobody may be given another one's answer."""
        try:
            return function(*arguments)
        except BaseException as error:
            self._fault = f"the model failed before ({type(error).__name__}: {error}); close it, and open it again"
            raise

    def _end(self) -> None:
        self._under_way.clear()
        self._free()


class CallersExecutor:
    """A caller's view of a shared executor; see `Executor`. For one thread at a time but for `prepare`."""

    def __init__(self, shared: SharedExecutor, executor: Executor) -> None:
        self.batch = executor.batch
        self.depth = executor.depth
        self.fixed = executor.fixed
        self.padded = executor.padded
        self._shared = shared
        self._executor = executor
        self._waiting: deque[_Batch | Sequence[Any]] = deque()

    def prepare(self, slice_: Slice) -> Any:
        """See `Executor.prepare`."""
        return self._executor.prepare(slice_)

    def submit(self, prepared: Sequence[Any]) -> None:
        """See `Executor.submit`."""
        # With one under way at a time it waits here: a call of the other thread less.
        self._waiting.append(prepared if self.depth == 1 else self._shared.submit(prepared))

    def collect(self) -> BatchResult:
        """See `Executor.collect`."""
        batch = self._waiting[0]
        result = self._shared.collect(batch) if isinstance(batch, _Batch) else self._shared.answer(batch)
        self._waiting.popleft()
        return result

    def prepared_bytes(self, slices: Sequence[Slice]) -> NDArray[np.uint8]:
        """See `Executor.prepared_bytes`."""
        return self._shared.alone(self._executor.prepared_bytes, slices)

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        """See `Executor.logits`."""
        return self._shared.alone(self._executor.logits, pixels)


class _Batch:
    """A batch of one caller; its result is there once it was collected, by whomever."""

    result: BatchResult | None = None

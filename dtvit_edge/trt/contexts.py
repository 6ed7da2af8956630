"""The execution contexts of one engine, on one activation memory. For the device's owner thread alone.

A context remembers its shape, and a CUDA graph that was captured in it is undefined once that has changed
(NVIDIA/TensorRT#3798). So that batch 1 and the largest batch have a context each, whose shape never changes, and all
other sizes share a third, which is never captured. They run one after the other in one stream: one activation memory,
sized by the largest need, serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.memory import DeviceMemory
from dtvit_edge.errors import DeviceFault, EngineError, OutOfDeviceMemory
from dtvit_edge.spec import INPUT_NAME
from dtvit_edge.trt.releases import Release

ANY_OTHER = 0  # the key of the context for sizes between batch 1 and the largest


class ExecutionContext:
    """One context of the library, on one optimization profile.

    Args:
        context: the library's, as `Release.create_context` gives it; keep: what must live as long.
        words: what the library last complained of.

    Attributes:
        captured: its calls may be captured: it runs one batch size alone.

    Raises:
        EngineError: the library refuses a profile, an address or a shape.
    """

    def __init__(self, context: Any, keep: Any, title: str, words: Callable[[], str], *, captured: bool) -> None:
        self.captured = captured
        self._context, self._keep = context, keep
        self._title, self._words = title, words
        self._count = 0

    @property
    def made(self) -> bool:
        """The library has made it."""
        return self._context is not None

    def bind(self, profile: int, stream: Any, addresses: dict[str, int]) -> None:
        """Choose the optimization profile, which may copy in the stream's order, and say where the tensors lie."""
        if not self._context.set_optimization_profile_async(profile, stream.handle):
            raise EngineError(f"{self._title} refuses optimization profile {profile}: {self._words()}")
        stream.synchronize()
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"{self._title} refuses an address for {name}: {self._words()}")

    def set_batch(self, count: int, shape: tuple[int, ...]) -> None:
        """Set the input's shape where it is another than before; never while a stream is being captured."""
        if count == self._count:
            return
        self._count = 0
        if not self._context.set_input_shape(INPUT_NAME, (count, *shape)):
            raise EngineError(f"{self._title} refuses a batch of {count}: {self._words()}")
        self._count = count

    def enqueue(self, stream: Any) -> None:
        """Queue the engine in a stream.

        Raises:
            DeviceFault: it does not run.
        """
        if not self._context.execute_async_v3(stream.handle):
            raise DeviceFault(f"{self._title} does not run the engine: {self._words()}")

    def profile_with(self, profiler: Any) -> None:
        """Tell a profiler of every layer from now on; it is kept, since the library does not own it."""
        self._keep = (self._keep, profiler)
        self._context.profiler = profiler

    def free(self) -> None:
        """Give it back; nothing of it may be under way."""
        self._context = self._keep = None


class ExecutionContexts:
    """Contexts by batch size, made when they are first asked for.

    Args:
        profiles: (lowest, highest) batch of each of the engine's optimization profiles, in its order.
        addresses: of the device, by tensor.
        shape: of one slice.
        words: what the library last complained of.

    Attributes:
        nbytes: of the activation memory.

    Raises:
        OutOfDeviceMemory: the activation memory, or a context, does not fit.
        EngineError: the library makes no context, or refuses a profile or an address.
    """

    def __init__(
        self,
        trt: Any,
        release: Release,
        engine: Any,
        device: Device,
        stream: Any,
        profiles: list[tuple[int, int]],
        addresses: dict[str, int],
        shape: tuple[int, ...],
        words: Callable[[], str],
    ) -> None:
        self._trt, self._release, self._engine, self._stream = trt, release, engine, stream
        self._profiles, self._addresses, self._shape, self._words = profiles, addresses, shape, words
        self.max_batch = max(highest for _, highest in profiles)
        self._contexts: dict[int, ExecutionContext] = {}
        self.nbytes = max(1, int(getattr(engine, release.memory_size_name)))
        try:
            self._memory = DeviceMemory(device, self.nbytes)
        except device.cuda.MemoryError as error:
            raise OutOfDeviceMemory(f"{error}: {self._too_large()}") from error

    def open(self) -> None:
        """Make those of every batch size now, so that what does not fit is known at once."""
        for count in sorted({1, self.max_batch, max(1, self.max_batch - 1)}):
            self.of(count)

    def of(self, count: int) -> ExecutionContext:
        """The context that runs batches of that size, its shape set. Not while a stream is being captured."""
        key = count if count in (1, self.max_batch) else ANY_OTHER
        if key not in self._contexts:
            self._contexts[key] = self._create(key, graphs=key != ANY_OTHER)
        context = self._contexts[key]
        context.set_batch(count, self._shape)
        return context

    @contextmanager
    def alone(self, count: int) -> Iterator[ExecutionContext]:
        """A context without CUDA graphs, for a profiler, on the profile that `count` runs on; the others go first.

        Below 8.6 a profile belongs to one context, and their memory can be needed: they come back when they are asked
        for. Graphs that were captured in them must be dropped before.
        """
        self.close()
        context = self._create(count if count in (1, self.max_batch) else ANY_OTHER, graphs=False)
        try:
            context.set_batch(count, self._shape)
            yield context
        finally:
            self._stream.synchronize()
            context.free()

    def close(self) -> None:
        """Give the contexts back, not their memory; nothing may be under way."""
        while self._contexts:
            self._contexts.popitem()[1].free()

    def free(self) -> None:
        """Give back the contexts, then the memory that they ran on, then the hold on the engine."""
        try:
            self.close()
            self._memory.free()
        finally:
            self._engine = self._stream = None

    def _create(self, key: int, *, graphs: bool) -> ExecutionContext:
        release, title = self._release, self._release.title
        captured = graphs and not release.captures_by_itself
        # In no local of this frame: an error would keep the library's context longer than its engine.
        context = ExecutionContext(
            *release.create_context(self._trt, self._engine, self._memory.address, self.nbytes, graphs=graphs),
            title, self._words, captured=captured,
        )  # fmt: skip
        words = self._words()  # below 8.6 it complains here that the first profile is taken
        if not context.made:
            if "memory" in words.lower():
                raise OutOfDeviceMemory(f"{title} makes no execution context: {words}: {self._too_large()}")
            raise EngineError(f"{title} makes no execution context: {words}")
        try:
            context.bind(self._profile(key), self._stream, self._addresses)
        except BaseException:
            context.free()
            raise
        return context

    def _profile(self, key: int) -> int:
        """Batch 1 has the first profile, the largest the second; other sizes the last, a third one in 8.5."""
        last = len(self._profiles) - 1
        return {1: 0, self.max_batch: min(1, last)}.get(key, last)

    def _too_large(self) -> str:
        return (
            f"the activations of batches up to {self.max_batch} take {self.nbytes >> 20} MiB; an engine with a smaller "
            "--max-batch needs less memory"
        )

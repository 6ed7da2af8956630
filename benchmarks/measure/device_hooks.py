"""What a device's backend tells beyond its protocol, asked for here and nowhere else; ranges for NVIDIA's profilers.

Engines of TensorRT are timed between CUDA events by `gpu_times`. Any backend may have these; where it has none, that
is said, and nothing is put in its place:

- `device_bytes() -> int`: the most device memory that it has held;
- `layers(pixels) -> dict[str, float]`: milliseconds by layer of one call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

from benchmarks.measure.gpu_times import stages_ms
from dtvit_edge.backend import Backend
from dtvit_edge.trt.backend import EngineBackend
from evaluation.sampling import Pixels


def device_ms(backend: Backend, pixels: Pixels, count: int) -> dict[str, list[float]]:
    """Milliseconds of one slice between CUDA events by stage, copies apart; empty where no engine runs."""
    return stages_ms(backend, pixels[:1], count) if isinstance(backend, EngineBackend) else {}


def device_bytes(backend: Backend) -> int | None:
    """The most device memory that it has held, or None."""
    held = _ask(backend, "device_bytes", None)
    return None if held is None else int(held)


def layers(backend: Backend, pixels: Pixels) -> dict[str, float]:
    """Milliseconds by layer of one call; empty where the backend has no profile."""
    return {name: float(value) for name, value in _ask(backend, "layers", {}, pixels).items()}


def ranges() -> tuple[Callable[[str], AbstractContextManager[Any]], str | None]:
    """NVTX ranges by name, and why there are none where nvtx is not installed."""
    if find_spec("nvtx") is None:
        return (lambda name: nullcontext()), "nvtx is not installed (pip install -e . --group nvtx)"
    import nvtx

    return (lambda name: nvtx.annotate(name, domain="dtvit-edge")), None


def _ask(backend: Backend, name: str, default: Any, *arguments: Any) -> Any:
    question = getattr(backend, name, None)
    return default if question is None else question(*arguments)

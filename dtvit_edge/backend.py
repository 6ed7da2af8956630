"""What every backend is: a context manager that turns model bytes into logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, OUTPUT_SIZES

# What a backend runs: the bundle's models as they are, or engines that `build` made of them.
MODELS, ENGINES = "models", "engines"

Logits = dict[str, NDArray[np.float32]]


class Backend(Protocol):
    """Opening allocates, closing frees, `__init__` only stores.

    Attributes:
        name: as it is asked for on the command line.
        precision: which of the bundle's models it runs.
        batch: slices a call that suit it; any number from 1 up is accepted. It holds once the backend is open.
        on_gpu: preprocessing belongs on the same GPU: an executor of its own runs it.
        proven: False where this is a program from elsewhere that has had no self-test on this device: whoever opens it
            runs one before it answers anything.
    """

    name: str
    precision: str
    batch: int
    on_gpu: bool
    proven: bool

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def describe(self) -> dict[str, str]:
        """Library, version, device, threads and hints: what a result says of what produced it."""
        ...

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch.

        Args:
            pixels: (N, C, 224, 224) uint8, C-contiguous.

        Returns:
            {"ich_logits": (N, 2), "location_logits": (N, 3)} float32.

        Raises:
            ConfigError: the backend is not open, or the pixels are of another type or shape; it can still be used.
            DeviceFault: the device failed.
        """
        ...


def in_batches(
    infer: Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.float32]]],
    pixels: NDArray[np.uint8],
    batch: int,
    step: Callable[[int], None] = lambda slices: None,
) -> Logits:
    """All slices through a backend's `infer`, `batch` at a time, `step` told of each; logits by output name."""
    parts: list[Mapping[str, NDArray[np.float32]]] = []
    for start in range(0, len(pixels), batch):
        part = np.ascontiguousarray(pixels[start : start + batch])
        parts.append(infer(part))
        step(len(part))
    none = {name: np.zeros((0, OUTPUT_SIZES[name]), np.float32) for name in OUTPUT_NAMES}
    return {name: np.concatenate([part[name] for part in (none, *parts)]) for name in OUTPUT_NAMES}


def one_slice_a_call(batch: Any) -> bool:
    """Whether a graph's batch, as a library gives the first length of its input's shape, is fixed at one slice.

    How much of such a graph is computed depends on the slice; a backend gives it a batch slice by slice.
    """
    return bool(batch == 1)


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities in float64, by row."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


def check_names(inputs: list[str], outputs: list[str]) -> None:
    """Names are checked when a graph is opened: another graph's outputs must not be taken for ours.

    Raises:
        BundleError: the graph's names are not the ones of `dtvit_edge.spec`.
    """
    if inputs != [INPUT_NAME] or set(outputs) != set(OUTPUT_NAMES):
        raise BundleError(
            f"the graph has inputs {inputs} and outputs {outputs}, expected {[INPUT_NAME]} and {list(OUTPUT_NAMES)}"
        )


def check_pixels(pixels: NDArray[np.uint8], shape: tuple[int, ...], least: int = 1) -> None:
    """What the caller hands in is judged before a library sees it, whose refusal would look like a device's fault.

    Args:
        shape: of one slice, (C, side, side).
        least: so many slices at least.

    Raises:
        ConfigError: these are not so many such slices of uint8.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 1 + len(shape) or pixels.shape[1:] != shape or len(pixels) < least:
        raise ConfigError(
            f"the model takes slices of {shape} as uint8, one or more; not {pixels.dtype} of shape {pixels.shape}"
        )


def not_open(name: str) -> ConfigError:
    """The error of a backend that is asked before it was entered, or after it was left."""
    return ConfigError(f"the {name} backend is not open: use it in a with statement")

"""ONNX Runtime on the CPU: the reference among the backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import MODELS, Logits, check_names, check_pixels, in_batches, not_open, one_slice_a_call
from dtvit_edge.bundle import Bundle, MemoryCopy, source_of
from dtvit_edge.errors import BundleError, DeviceFault
from dtvit_edge.precisions import CPU_PRECISIONS
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES

NAME = "onnxruntime"
INSTALL = "pip install onnxruntime"
HINTS: tuple[str, ...] = ()
PRECISIONS = CPU_PRECISIONS
RUNS = MODELS
BATCH = 8


def unavailable() -> str | None:
    """Why this backend cannot run here, or None."""
    return None if find_spec("onnxruntime") else "onnxruntime is not installed"


def library() -> ModuleType:
    """ONNX Runtime, which is loaded when it is used."""
    import onnxruntime

    return cast(ModuleType, onnxruntime)


def loader(bundle: Bundle, precision: str, hint: str | None) -> Callable[[], MemoryCopy]:
    """What gives the backend its model."""
    return partial(bundle.model_copy, precision)


# It writes a bias in units of the input's scale times the weight's, and in float16 their product underflows: of a
# ResNet18's int8-fp16 file 24 % of the decisions agreed (ONNX Runtime 1.32).
_HARMFUL_OPTIMIZERS = ["WeightBiasQuantization"]


def open_session(model: bytes | str, threads: int = 0, precision: str = "", *, profile: str = "") -> Any:
    """A session of ONNX Runtime on the CPU, an `onnxruntime.InferenceSession`.

    Args:
        model: its bytes, or the path of a file with them.
        threads: of one operator; 0 leaves it to ONNX Runtime.
        precision: of the model; all but those that `score` runs here do without optimizers that harm float16.
        profile: how the path of a file begins that gets the time of each operator; empty writes none.
    """
    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    disabled = None if precision in PRECISIONS else _HARMFUL_OPTIMIZERS
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
    )


def logits_of(
    model: bytes,
    precision: str,
    pixels: NDArray[np.uint8],
    *,
    batch: int = BATCH,
    threads: int | None = None,
    step: Callable[[int], None] = lambda slices: None,
) -> Logits:
    """What a model's bytes answer, opened for these slices alone.

    Args:
        pixels: (N, C, side, side) uint8; the other arguments are those of the backend and of `in_batches`.
    """
    with OnnxRuntimeBackend(lambda: model, precision, threads=threads) as backend:
        return in_batches(backend.infer, pixels, batch, step)


class OnnxRuntimeBackend:
    """An ONNX model through ONNX Runtime's CPU provider.

    Args:
        load: gives the model's verified bytes when the backend is opened; they are not kept.
        precision: whose bytes those are, for results and errors.
        threads: of one operator; None leaves it to ONNX Runtime.
    """

    name = NAME
    on_gpu = False
    proven = True

    def __init__(
        self, load: Callable[[], bytes | MemoryCopy], precision: str = "fp32", *, threads: int | None = None
    ) -> None:
        self.load = load
        self.precision = precision
        self.threads = threads
        self.batch = BATCH
        self._session: Any = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> OnnxRuntimeBackend:
        model = self.load()
        try:
            with source_of(model) as source:
                self._session = open_session(source, self.threads or 0, self.precision)
        except Exception as error:
            raise BundleError(
                f"ONNX Runtime {library().__version__} refuses the {self.precision} model: {error}"
            ) from error
        inputs = self._session.get_inputs()
        check_names([i.name for i in inputs], [o.name for o in self._session.get_outputs()])
        self._shape = tuple(inputs[0].shape[1:])
        if one_slice_a_call(inputs[0].shape[0]):
            self.batch = 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def describe(self) -> dict[str, str]:
        """Library, version, device and threads."""
        return {
            "backend": NAME,
            "version": library().__version__,
            "device": "cpu",
            "threads": str(self.threads or "default"),
        }

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch; see `Backend.infer`."""
        if self._session is None:
            raise not_open(NAME)
        check_pixels(pixels, self._shape)
        return in_batches(self._run, pixels, 1) if self.batch == 1 < len(pixels) else self._run(pixels)

    def _run(self, pixels: NDArray[np.uint8]) -> Logits:
        try:
            outputs = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels})
        except Exception as error:
            raise DeviceFault(f"ONNX Runtime failed: {error}") from error
        return dict(zip(OUTPUT_NAMES, outputs, strict=True))

"""ONNX Runtime on the CPU: the reference among the backends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import MODELS, Logits, check_names, check_pixels, not_open
from dtvit_edge.bundle import Bundle, MemoryCopy, source_of
from dtvit_edge.errors import BundleError, DeviceFault
from dtvit_edge.precisions import CPU_PRECISIONS
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES

NAME = "onnxruntime"
INSTALL = "pip install onnxruntime"
HINTS: tuple[str, ...] = ()
PRECISIONS = CPU_PRECISIONS
RUNS = MODELS


def unavailable() -> str | None:
    """Why this backend cannot run here, or None."""
    return None if find_spec("onnxruntime") else "onnxruntime is not installed"


def loader(bundle: Bundle, precision: str, hint: str | None) -> Callable[[], MemoryCopy]:
    """What gives the backend its model."""
    return partial(bundle.model_copy, precision)


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
        self.batch = 8
        self._session: Any = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> OnnxRuntimeBackend:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        model = self.load()
        try:
            with source_of(model) as source:
                self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleError(
                f"ONNX Runtime {onnxruntime.__version__} refuses the {self.precision} model: {error}"
            ) from error
        inputs = self._session.get_inputs()
        check_names([i.name for i in inputs], [o.name for o in self._session.get_outputs()])
        self._shape = tuple(inputs[0].shape[1:])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def describe(self) -> dict[str, str]:
        """Library, version, device and threads."""
        import onnxruntime

        return {
            "backend": NAME,
            "version": onnxruntime.__version__,
            "device": "cpu",
            "threads": str(self.threads or "default"),
        }

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch; see `Backend.infer`."""
        if self._session is None:
            raise not_open(NAME)
        check_pixels(pixels, self._shape)
        try:
            outputs = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels})
        except Exception as error:
            raise DeviceFault(f"ONNX Runtime failed: {error}") from error
        return dict(zip(OUTPUT_NAMES, outputs, strict=True))

"""OpenVINO on the CPU. Its precision hint is always set: left alone it takes bf16 and is 6.6e-3 off."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import CPU_PRECISIONS, MODELS, Logits, check_names, check_pixels, not_open
from dtvit_edge.errors import BundleError, DeviceFault
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES

NAME = "openvino"
INSTALL = "pip install '.[intel]' (in a checkout; or the wheel's file instead of the dot)"
HINTS = ("f32", "bf16")
PRECISIONS = CPU_PRECISIONS
RUNS = MODELS


def unavailable() -> str | None:
    """Why this backend cannot run here, or None."""
    return None if find_spec("openvino") else "openvino is not installed"


def native_hints() -> tuple[str, ...]:
    """The hints below f32 that this processor computes in; elsewhere OpenVINO takes f32 for them."""
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(hint for hint in HINTS if hint != "f32" and hint.upper() in capabilities)


class OpenVinoBackend:
    """An ONNX model through OpenVINO's CPU plugin.

    Args:
        load: gives the model's verified bytes when the backend is opened; they are not kept.
        precision: whose bytes those are, for results and errors.
        threads: None leaves it to OpenVINO.
        hint: inference precision, `f32` or, asked for by name, `bf16`.
    """

    name = NAME

    def __init__(
        self,
        load: Callable[[], bytes],
        precision: str = "fp32",
        *,
        threads: int | None = None,
        hint: str = "f32",
    ) -> None:
        self.load = load
        self.precision = precision
        self.threads = threads
        self.hint = hint
        self.batch = 8
        self._request: Any = None
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> OpenVinoBackend:
        import openvino

        core = openvino.Core()
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self.hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.threads is not None:
            config["INFERENCE_NUM_THREADS"] = self.threads
        model = self.load()
        try:
            compiled = core.compile_model(core.read_model(model), "CPU", config)
        except Exception as error:
            raise BundleError(f"OpenVINO {openvino.__version__} refuses the {self.precision} model: {error}") from error
        check_names(
            [port.get_any_name() for port in compiled.inputs],
            [port.get_any_name() for port in compiled.outputs],
        )
        self._shape = tuple(n.get_length() for n in list(compiled.inputs[0].get_partial_shape())[1:])
        self._request = compiled.create_infer_request()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._request = None

    def describe(self) -> dict[str, str]:
        """Library, version, device, threads and precision hint."""
        import openvino

        return {
            "backend": NAME,
            "version": openvino.__version__,
            "device": "cpu",
            "threads": str(self.threads or "default"),
            "precision_hint": self.hint,
        }

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch; see `Backend.infer`."""
        if self._request is None:
            raise not_open(NAME)
        check_pixels(pixels, self._shape)
        try:
            self._request.infer({INPUT_NAME: pixels}, share_inputs=True)
        except Exception as error:
            raise DeviceFault(f"OpenVINO failed: {error}") from error
        # Copied: the request's own memory is overwritten by the next call.
        return {name: self._request.get_tensor(name).data.copy() for name in OUTPUT_NAMES}

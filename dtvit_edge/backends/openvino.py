"""OpenVINO on the CPU. Its precision hint is always set: left alone it takes bf16 and is 6.6e-3 off."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import MODELS, Logits, check_names, check_pixels, in_batches, not_open, one_slice_a_call
from dtvit_edge.backends.compiled_models import CompiledModel, find_compiled
from dtvit_edge.bundle import ENGINES, Bundle, MemoryCopy, source_of
from dtvit_edge.environment import install_line
from dtvit_edge.errors import BundleError, DeviceFault
from dtvit_edge.precisions import CPU_PRECISIONS
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES

NAME = "openvino"
INSTALL = install_line("intel")
HINTS = ("f32", "bf16")
PRECISIONS = CPU_PRECISIONS
RUNS = MODELS
# What converts other frameworks' models, and loads a third of all that `import openvino` does; nothing here needs it.
_CONVERTER, _CONVERTS = "openvino.tools.ovc", "convert_model"


def unavailable() -> str | None:
    """Why this backend cannot run here, or None."""
    return None if find_spec("openvino") else "openvino is not installed"


def library() -> ModuleType:
    """OpenVINO, loaded without its converter, which comes when somebody asks the module for it."""
    if "openvino" in sys.modules:
        return import_module("openvino")
    without = _Without(threading.get_ident())
    sys.meta_path.insert(0, without)
    try:
        openvino = import_module("openvino")  # goes on without a converter that cannot be imported
    finally:
        sys.meta_path.remove(without)
    if not hasattr(openvino, _CONVERTS):
        vars(openvino).setdefault("__getattr__", _later)
    return openvino


class _Without:
    """Says to one thread that the converter cannot be imported; others get it."""

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        if name == _CONVERTER and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is loaded when it is asked for", name=name)


def _later(name: str) -> Any:
    """An attribute of the module that is not there: the converter, for what else runs in this process."""
    if name != _CONVERTS:
        raise AttributeError(f"module 'openvino' has no attribute {name!r}", name=name, obj=sys.modules["openvino"])
    return getattr(import_module(_CONVERTER), name)


def native_hints() -> tuple[str, ...]:
    """The hints below f32 that this processor computes in; elsewhere OpenVINO takes f32 for them."""
    capabilities = library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(hint for hint in HINTS if hint != "f32" and hint.upper() in capabilities)


def loader(bundle: Bundle, precision: str, hint: str | None) -> Callable[[], MemoryCopy | CompiledModel]:
    """What gives the backend its model: one that `build` has compiled, where it fits, else the bundle's."""

    def load() -> MemoryCopy | CompiledModel:
        found = find_compiled(bundle, library().__version__, precision, hint or HINTS[0])
        return found or bundle.model_copy(precision)

    return load


class OpenVinoBackend:
    """An ONNX model through OpenVINO's CPU plugin.

    Args:
        load: gives what runs when the backend is opened, its bytes verified: a model, which is compiled, or one that
            was compiled before.
        precision: whose bytes those are, for results and errors.
        threads: None leaves it to OpenVINO.
        hint: inference precision, `f32` or, asked for by name, `bf16`.

    Attributes:
        proven: see `Backend`; False for a compiled model from elsewhere.
        compiled: what runs, while the backend is open.
    """

    name = NAME
    on_gpu = False

    def __init__(
        self,
        load: Callable[[], bytes | MemoryCopy | CompiledModel],
        precision: str = "fp32",
        *,
        threads: int | None = None,
        hint: str = HINTS[0],
    ) -> None:
        self.load = load
        self.precision = precision
        self.threads = threads
        self.hint = hint
        self.batch = 8
        self.proven = True
        self.compiled: Any = None
        self._request: Any = None
        self._shape: tuple[int, ...] = ()
        # OpenVINO works on a compiled model's bytes where they lie, and does not keep them itself.
        self._bytes: MemoryCopy | None = None

    def __enter__(self) -> OpenVinoBackend:
        openvino = library()
        core = openvino.Core()
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self.hint,
            "PERFORMANCE_HINT": "LATENCY",
            # It would pin the calling thread to core 0, in every process alike: two runs on a machine would share one
            # core, and what this thread starts inherits it.
            "ENABLE_CPU_PINNING": False,
        }
        if self.threads is not None:
            config["INFERENCE_NUM_THREADS"] = self.threads
        model = self.load()
        try:
            if isinstance(model, CompiledModel):
                self._bytes, self.proven = model.blob, model.proven
                model.blob.close_path()
                memory = openvino.Tensor(np.frombuffer(model.blob.memory, np.uint8), shared_memory=True)
                self.compiled = core.import_model(memory, "CPU", config)
            else:
                with source_of(model) as source:
                    self.compiled = core.compile_model(core.read_model(source), "CPU", config)
        except Exception as error:
            version = openvino.__version__
            if isinstance(model, CompiledModel):
                blob = f"{ENGINES}/{model.record.blob}"
                raise BundleError(f"OpenVINO {version} refuses {blob}, which `build` makes anew: {error}") from error
            raise BundleError(f"OpenVINO {version} refuses the {self.precision} model: {error}") from error
        check_names(
            [port.get_any_name() for port in self.compiled.inputs],
            [port.get_any_name() for port in self.compiled.outputs],
        )
        batch, *slice_shape = self.compiled.inputs[0].get_partial_shape()
        self._shape = tuple(n.get_length() for n in slice_shape)
        if batch.is_static and one_slice_a_call(batch.get_length()):
            self.batch = 1
        self._request = self.compiled.create_infer_request()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._request = self.compiled = None
        self._bytes = None  # last: what runs works on them

    def describe(self) -> dict[str, str]:
        """Library, version, device, threads and precision hint."""
        return {
            "backend": NAME,
            "version": library().__version__,
            "device": "cpu",
            "threads": str(self.threads or "default"),
            "precision_hint": self.hint,
        }

    def infer(self, pixels: NDArray[np.uint8]) -> Logits:
        """Run one batch; see `Backend.infer`."""
        if self._request is None:
            raise not_open(NAME)
        check_pixels(pixels, self._shape)
        return in_batches(self._run, pixels, 1) if self.batch == 1 < len(pixels) else self._run(pixels)

    def _run(self, pixels: NDArray[np.uint8]) -> Logits:
        try:
            self._request.infer({INPUT_NAME: pixels}, share_inputs=True)
        except Exception as error:
            raise DeviceFault(f"OpenVINO failed: {error}") from error
        # Copied: the request's own memory is overwritten by the next call.
        return {name: self._request.get_tensor(name).data.copy() for name in OUTPUT_NAMES}

"""ONNX Runtime and OpenVINO on a plain export: float input, no rewrites, fp32, the libraries' defaults.

OpenVINO alone is told a precision, f32: left alone it takes bf16 where the processor has it, and that is another model.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from benchmarks.bench.peers import Floats
from dtvit_edge.backends.base import Logits
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES
from export.model import DTViT
from export.onnx_graph import open_session, plain_export

# Exporting takes longer than opening: both peers run the same bytes.
_exported: WeakKeyDictionary[DTViT, bytes] = WeakKeyDictionary()


class OnnxRuntimePlain:
    """A session over the plain export."""

    def __init__(self, model: DTViT, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads
        self._session: Any = None

    def __enter__(self) -> OnnxRuntimePlain:
        self._session = open_session(_export(self._model), self._threads or 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, floats: Floats) -> Logits:
        """See `ModelPeer.infer`."""
        outputs = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: floats})
        return dict(zip(OUTPUT_NAMES, outputs, strict=True))


class OpenVinoPlain:
    """A compiled model over the plain export."""

    def __init__(self, model: DTViT, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads
        self._compiled: Any = None

    def __enter__(self) -> OpenVinoPlain:
        import openvino

        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if self._threads is not None:
            config["INFERENCE_NUM_THREADS"] = self._threads
        core = openvino.Core()
        self._compiled = core.compile_model(core.read_model(_export(self._model)), "CPU", config)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._compiled = None

    def infer(self, floats: Floats) -> Logits:
        """See `ModelPeer.infer`."""
        found = self._compiled({INPUT_NAME: floats})
        return {name: found[name] for name in OUTPUT_NAMES}


def _export(model: DTViT) -> bytes:
    if model not in _exported:
        _exported[model] = plain_export(model)
    return _exported[model]

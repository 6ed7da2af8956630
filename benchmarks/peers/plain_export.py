"""ONNX Runtime and OpenVINO on a plain export: float input, no rewrites, fp32, the libraries' defaults.

OpenVINO alone is told a precision, f32: left alone it takes bf16 where the processor has it, and that is another model.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from benchmarks.peers import Floats, Infer
from dtvit_edge.backend import Logits
from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES
from export.model import DTViT
from export.onnx_graph import plain_export

# Exporting takes longer than opening: both peers run the same bytes.
_exported: WeakKeyDictionary[DTViT, bytes] = WeakKeyDictionary()


def onnx_runtime(model: DTViT, threads: int | None = None) -> Infer:
    """A session over the plain export."""
    session = open_session(_export(model), threads or 0)

    def infer(floats: Floats) -> Logits:
        outputs = session.run(list(OUTPUT_NAMES), {INPUT_NAME: floats})
        return dict(zip(OUTPUT_NAMES, outputs, strict=True))

    return infer


def openvino(model: DTViT, threads: int | None = None) -> Infer:
    """A compiled model over the plain export."""
    from openvino import Core

    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    core = Core()
    compiled = core.compile_model(core.read_model(_export(model)), "CPU", config)

    def infer(floats: Floats) -> Logits:
        outputs = compiled({INPUT_NAME: floats})
        return {name: outputs[name] for name in OUTPUT_NAMES}

    return infer


def _export(model: DTViT) -> bytes:
    if model not in _exported:
        _exported[model] = plain_export(model)
    return _exported[model]

"""Milliseconds by layer: by the backend itself where it has a profile, else by its library on the same verified bytes.

ONNX Runtime and OpenVINO have profilers that their backends leave switched off, since they cost time; so the session is
another one here, and its sum is not a latency.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import device_hooks
from benchmarks.measure.configurations import Configuration
from dtvit_edge.backend import Backend
from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.spec import INPUT_NAME
from evaluation.sampling import Pixels

CALLS = 5
NAMED_LAYERS = 15


def profile(configuration: Configuration, backend: Backend, pixels: Pixels, threads: int | None) -> dict[str, float]:
    """Milliseconds by kind of layer (ONNX Runtime, OpenVINO) or by layer (a backend's profile), else nothing.

    Args:
        pixels: (1, C, 224, 224) uint8.
    """
    by_layer = device_hooks.layers(backend, pixels)
    if by_layer or configuration.backend not in _PROFILERS:
        return by_layer
    return _PROFILERS[configuration.backend](configuration, pixels, threads)


def largest(by_layer: dict[str, float]) -> list[tuple[str, float]]:
    """The costliest `NAMED_LAYERS`, and the rest as one."""
    order = sorted(by_layer.items(), key=lambda item: -item[1])
    rest = sum(value for _, value in order[NAMED_LAYERS:])
    return order[:NAMED_LAYERS] + ([(f"{len(order) - NAMED_LAYERS} more", rest)] if rest else [])


def _onnxruntime(configuration: Configuration, pixels: Pixels, threads: int | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        data = configuration.bundle.model_bytes(configuration.precision)
        profile = str(Path(folder) / "profile")
        session = open_session(data, threads or 0, configuration.precision, profile=profile)
        for _ in range(CALLS):
            session.run(None, {INPUT_NAME: pixels})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    by_kind: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            by_kind[kind] = by_kind.get(kind, 0.0) + event["dur"] / 1e3 / CALLS
    return by_kind


def _openvino(configuration: Configuration, pixels: Pixels, threads: int | None) -> dict[str, float]:
    import openvino

    core = openvino.Core()
    config = {
        "INFERENCE_PRECISION_HINT": configuration.hint or "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": True,
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(
        core.read_model(configuration.bundle.model_bytes(configuration.precision)), "CPU", config
    )
    request = compiled.create_infer_request()
    by_kind: dict[str, float] = {}
    for _ in range(CALLS):
        request.infer({INPUT_NAME: np.ascontiguousarray(pixels)})
        for layer in request.profiling_info:
            milliseconds = layer.real_time.total_seconds() * 1e3 / CALLS
            if milliseconds:
                by_kind[layer.node_type] = by_kind.get(layer.node_type, 0.0) + milliseconds
    return by_kind


_PROFILERS: dict[str, Callable[[Configuration, Pixels, int | None], dict[str, float]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}

"""What a user of PyTorch would take on the same GPU: eager, torch.compile and a CUDA graph, in float16.

    python3 -m benchmarks.gpu_check.pytorch SETTINGS.json

A script of its own for the interpreter that has torch, timm and NumPy (not the one that runs the other stages); it
appends records to the same file. Inside the timer: normalised float16 slices on the device to both heads' logits,
waited for.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.stages import NOT_HERE_STATUS, PYTORCH, WHAT_PYTORCH
from benchmarks.measure.interleaving import alternate
from dtvit_edge.bundle import Bundle
from dtvit_edge.spec import PreprocessSpec, digest_file
from evaluation.records import Record, append
from export.checkpoint import load_checkpoint
from export.model import normalise

WARM_UP = 5


def main(settings_file: str) -> int:
    """A record for each batch size; 75 where PyTorch has no GPU."""
    settings = Settings.read(Path(settings_file))
    if why_not := absent():
        print(why_not, file=sys.stderr)
        return NOT_HERE_STATUS
    assert settings.weights
    weights, bundle = Path(settings.weights), Bundle.open(settings.bundle)
    golden, digests = bundle.golden().pixels, {"weights": digest_file(weights), "bundle": bundle.digest}
    for batch in settings.batches:
        pixels = np.resize(golden, (batch, *golden.shape[1:]))
        samples = peers_ms(weights, pixels, bundle.manifest.spec, settings.rounds)
        summary = {f"{name}: p50 ms": statistics.median(values) for name, values in samples.items()}
        about = {"stage": PYTORCH, "batch": batch, "precision": "fp16", "device": torch.cuda.get_device_name()}
        about["command"] = settings.command_of(PYTORCH)
        append(settings.records, Record(WHAT_PYTORCH, "ms", samples, summary, digests, about))
    return 0


def absent() -> str:
    """Why there are no such peers here; empty where there are."""
    return "" if torch.cuda.is_available() else "this PyTorch sees no CUDA device"


def peers_ms(
    weights: Path, pixels: NDArray[np.uint8], spec: PreprocessSpec, rounds: int, device: str = "cuda"
) -> dict[str, list[float]]:
    """Milliseconds a batch by peer, in alternating rounds.

    Args:
        pixels: (N, C, 224, 224) uint8: one batch.
        device: `cuda`; on `cpu` there is no CUDA graph, and the type is bfloat16.
    """
    kind = torch.float16 if device == "cuda" else torch.bfloat16
    model = load_checkpoint(weights).model.eval().to(device, kind)
    batch = normalise(torch.from_numpy(pixels), spec).to(device, kind)
    with torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {"eager": lambda: model(batch)}
        compiled = torch.compile(model)
        calls["torch.compile"] = lambda: compiled(batch)
        if device == "cuda":
            calls["CUDA graph"] = _graph(calls["eager"]).replay
        return alternate({name: _waited(call, device) for name, call in calls.items()}, rounds, 1, warm_up=WARM_UP)


def _graph(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """PyTorch's own way (torch.cuda.CUDAGraph): warmed up in a side stream, then captured."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def _waited(call: Callable[[], object], device: str) -> Callable[[], object]:
    def run() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

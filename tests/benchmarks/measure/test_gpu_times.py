"""What lies between the events of a GPU's times, on the stand-in GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import gpu_times
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.api import Options, open_backend
from dtvit_edge.trt.backend import EngineBackend
from tests.support.cuda import device
from tests.support.cuda.fixtures import install_engine

ROUNDS = 4


def test_all_rounds_are_queued_before_anybody_waits(
    tiny_bundle: Bundle, tmp_path: Path, make_gpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = make_gpu()
    bundle = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))
    install_engine(bundle, max_batch=4)
    pixels = bundle.golden().pixels
    run_before_waiting: list[int] = []
    synchronize = device.Event.synchronize

    def counted(event: device.Event) -> device.Event:
        run_before_waiting.append(gpu.launched.count("engine") + gpu.launched.count("graph"))
        return synchronize(event)

    with open_backend(bundle, "tensorrt", Options()) as backend:
        assert isinstance(backend, EngineBackend)
        monkeypatch.setattr(device.Event, "synchronize", counted)
        before = gpu.launched.count("engine") + gpu.launched.count("graph")
        stages = gpu_times.stages_ms(backend, pixels[:1], ROUNDS)
    (run,) = run_before_waiting
    assert run - before <= gpu_times.WARM_UP, "one wait, and the device had run nothing of what is timed"
    assert {name: len(values) for name, values in stages.items()} == {
        "copy in": ROUNDS, "infer": ROUNDS, "copy out": ROUNDS
    }  # fmt: skip
    assert min(min(values) for values in stages.values()) >= 0

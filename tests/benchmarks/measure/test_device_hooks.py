"""What a device's backend tells beyond its protocol."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.measure import device_hooks, latency
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.api import Options, open_backend
from dtvit_edge.trt.backend import PROFILED
from dtvit_edge.trt.store import ENGINES
from tests.support.cuda.fixtures import install_engine
from tests.support.cuda.tensorrt import ACTIVATIONS, LAYER_MS

PIXELS = np.zeros((3, 1, 4, 4), np.uint8)


class OnDevice(latency.NullBackend):
    """A backend with everything that may be asked beyond the protocol."""

    def device_bytes(self) -> int:
        return 2**20

    def layers(self, pixels: np.ndarray) -> dict[str, float]:
        return {"attention": 1.5}


def test_what_a_backend_offers_beyond_its_protocol_is_taken() -> None:
    backend = OnDevice()
    assert device_hooks.device_bytes(backend) == 2**20 and device_hooks.layers(backend, PIXELS) == {"attention": 1.5}


def test_an_engine_tells_times_between_events_its_layers_and_its_memory(
    tiny_bundle: Bundle, tmp_path: Path, make_gpu: Callable[..., Any]
) -> None:
    gpu = make_gpu()
    bundle = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))
    install_engine(bundle, max_batch=4)
    pixels, golden = bundle.golden().pixels, bundle.golden().logits
    with open_backend(bundle, "tensorrt", Options()) as backend:
        stages = device_hooks.device_ms(backend, pixels, 3)
        assert {name: len(values) for name, values in stages.items()} == {"copy in": 3, "infer": 3, "copy out": 3}
        assert min(stages["infer"]) > 0
        before = gpu.launched.count("engine")
        layers = device_hooks.layers(backend, pixels[:1])
        assert layers == {"whole": pytest.approx(2 * LAYER_MS)}
        assert gpu.launched.count("engine") == before + 1 + PROFILED
        (plan,) = (bundle.path / ENGINES).glob("*.plan")
        assert device_hooks.device_bytes(backend) == gpu.device_bytes + plan.stat().st_size
        assert gpu.device_bytes > ACTIVATIONS, "tensors and activations alike are allocated here"
        np.testing.assert_allclose(backend.infer(pixels[:1])["ich_logits"], golden["ich_logits"][:1], atol=1e-5)


def test_nothing_is_put_in_place_of_a_clock_that_is_not_there() -> None:
    backend = latency.NullBackend()
    assert device_hooks.device_ms(backend, PIXELS, 4) == {}
    assert device_hooks.device_bytes(backend) is None and device_hooks.layers(backend, PIXELS) == {}

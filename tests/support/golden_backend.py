"""A backend in place of the one that runs engines: it answers the golden logits of `bundle`, off by `error`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dtvit_edge.bundle import Bundle
from dtvit_edge.selftest import SelfTest, require_passed, selftest
from dtvit_edge.trt.store import Engine

bundle: Bundle | None = None
error = 0.0
opened: list[tuple[str, bytes, str, int]] = []
sizes: set[int] = set()
devices: list[int] = []


class Golden:
    name, batch = "golden", 8
    on_gpu, proven = False, True

    def __init__(self, precision: str) -> None:
        assert bundle is not None
        self.precision = precision
        self.golden = bundle.golden()

    def __enter__(self) -> Golden:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def describe(self) -> dict[str, str]:
        return {"backend": "golden", "version": "0"}

    def infer(self, pixels: Any) -> Any:
        sizes.add(len(pixels))
        index = [int(np.argmax([(p == q).all() for q in self.golden.pixels])) for p in pixels]
        return {
            name: logits[index].astype(np.float32) + np.float32(error) for name, logits in self.golden.logits.items()
        }


def open_serialized(flavour: str, serialized: Engine, precision: str, device: int = 0) -> Golden:
    devices.append(device)
    opened.append((flavour, serialized.plan, precision, serialized.max_batch))
    return Golden(precision)


def prove_backend(of: Bundle, backend: Any, batches: Sequence[int]) -> SelfTest:
    """The self-test of a backend alone, for `build`: this one has no device that a chain could run on."""
    return require_passed(selftest(of, backend, batches))

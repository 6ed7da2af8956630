"""Milliseconds of one slice: every side in alternating rounds, and the stages around the model.

Inside the timer is one call of `Backend.infer` on one slice's model bytes, copies to a device and back included where
there is one. Every call gets another slice. The null side, a backend that answers at once, is timed among them: what
it takes is what the harness adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.alternate import WARM_UP_RUNS, alternate
from benchmarks.bench.names import NULL
from benchmarks.bench.settings import Effort
from benchmarks.bench.yardstick import ALL, Yardstick
from benchmarks.slice_cost import stages
from calibration.slices import Pixels
from dtvit_edge.backends.base import Logits
from dtvit_edge.spec import HEAD_LABELS, OUTPUT_NAMES, PreprocessSpec

INSIDE = "one call of Backend.infer on one slice's model bytes (N=1), copies included; another slice every call"
INSIDE_STAGES = (
    "header: the planning pass over one file; bytes: what lies in it, as any program must fetch it; read: fetching and "
    "decoding its pixels, one step in this reader, which leaves the header's bytes where they are; preprocess: stored "
    "pixels to model bytes"
)
_YARDSTICK = "yardstick"
STAGES = ("header", "bytes", "read", "preprocess")


class NullBackend:
    """A backend that answers at once: whatever is timed of it is the harness."""

    name, precision, batch = NULL, NULL, 1

    def __init__(self) -> None:
        self._answer: Logits = {
            name: np.zeros((1, len(labels)), np.float32)
            for name, labels in zip(OUTPUT_NAMES, HEAD_LABELS.values(), strict=True)
        }

    def infer(self, pixels: Pixels) -> Logits:
        """The same logits, whatever the slice."""
        return self._answer


def one_slice(infer: Callable[[NDArray[Any]], object], slices: NDArray[Any]) -> Callable[[], object]:
    """A call that infers one slice, the next one every time.

    Args:
        slices: (N, ...), what `infer` takes; each call gets (1, ...).
    """
    following = cycle([slices[i : i + 1] for i in range(len(slices))]).__next__
    return lambda: infer(following())


def measure(
    calls: Mapping[str, Callable[[], object]], effort: Effort, yardstick: Yardstick
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Warm-up and samples in milliseconds, by side; the yardstick takes its turns among them.

    All sides get the same number: what `effort.seconds` a side allow, between its least and its most.
    """
    everyone: dict[str, Callable[[], object]] = {**calls, _YARDSTICK: yardstick}
    warm_up = alternate(everyone, WARM_UP_RUNS, 1, warm_up=0)
    warm_up.pop(_YARDSTICK)
    round_ms = sum(values[-1] for values in warm_up.values())
    wanted = round(effort.seconds * len(calls) * 1e3 / round_ms)
    rounds = min(max(wanted, effort.least), effort.most)
    samples = alternate(everyone, rounds, 1, warm_up=0)
    yardstick.ms[ALL] = samples.pop(_YARDSTICK)
    return warm_up, samples


def stage_calls(file: Path, spec: PreprocessSpec) -> dict[str, Callable[[], object]]:
    """What one file costs before the model, stage by stage (`benchmarks.slice_cost`)."""
    found = stages(file, spec)
    return {name: found[name] for name in STAGES}

"""Milliseconds of one slice: every contender in alternating rounds, and the stages around the model.

Inside the timer is one call of `Backend.infer` on one slice's model bytes, copies to a device and back included where
there is one. Every call gets another slice. The null backend, which answers at once, is timed among them: what it takes
is what the harness adds.

Each timed call follows `UNTIMED_CALLS` untimed ones of the same contender, and where pools of threads may be at work a
pause before those. A library's threads spin for a while after its last call, and so do the next one's while they wait
for each other: on two cores PyTorch eager took 126 ms right after ONNX Runtime and OpenVINO, and 5 ms alone or so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.interleaving import WARM_UP_RUNS, alternate
from benchmarks.measure.yardstick import ALL_SAMPLES, Yardstick
from benchmarks.results.names import NULL_BACKEND
from benchmarks.settings import Effort
from dtvit_edge.backend import Logits
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import HEAD_LABELS, OUTPUT_NAMES, PreprocessSpec
from evaluation.sampling import Pixels

UNTIMED_CALLS, PAUSE_S = 2, 0.05
INSIDE_TIMER = (
    "one call of Backend.infer on one slice's model bytes (N=1), copies included; another slice every call, each after "
    f"{UNTIMED_CALLS} untimed ones of the same contender"
)
INSIDE_TIMER_PAUSED = (
    f"{INSIDE_TIMER}, and these after a pause of {PAUSE_S * 1e3:.0f} ms in which other contenders' threads come to rest"
)
INSIDE_TIMER_STAGES = (
    "header: the planning pass over one file; bytes: what lies in it, as any program must fetch it; read: fetching and "
    "decoding its pixels, one step in this reader, which leaves the header's bytes where they are; preprocess: stored "
    "pixels to model bytes"
)
_YARDSTICK = "yardstick"


class NullBackend:
    """A backend that answers at once: whatever is timed of it is the harness."""

    name, precision, batch = NULL_BACKEND, NULL_BACKEND, 1
    on_gpu, proven = False, True

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
    calls: Mapping[str, Callable[[], object]], effort: Effort, yardstick: Yardstick, *, pools: bool = False
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Warm-up and samples in milliseconds, by contender; the yardstick takes its turns among them.

    All contenders get the same number: what `effort.seconds` a contender allow, between its least and its most.

    Args:
        pools: a contender may have threads beside the one that calls it.
    """
    everyone: dict[str, Callable[[], object]] = {**calls, _YARDSTICK: yardstick}
    warm_up = alternate(everyone, WARM_UP_RUNS, 1, warm_up=0)
    warm_up.pop(_YARDSTICK)
    pause_s = PAUSE_S if pools else 0.0
    round_ms = sum((1 + UNTIMED_CALLS) * values[-1] + 1e3 * pause_s for values in warm_up.values())
    wanted = round(effort.seconds * len(calls) * 1e3 / round_ms)
    rounds = min(max(wanted, effort.least), effort.most)
    samples = alternate(everyone, rounds, 1, warm_up=0, lead=UNTIMED_CALLS, pause_s=pause_s)
    yardstick.ms[ALL_SAMPLES] = samples.pop(_YARDSTICK)
    return warm_up, samples


def stage_calls(file: Path, spec: PreprocessSpec) -> dict[str, Callable[[], object]]:
    """What one file costs before the model, stage by stage."""
    (header,) = read_headers(file, file.name)
    reader, prepare = SliceReader(), CpuPreprocessor(spec)
    stored = reader.read(header).stored
    return {
        "header": lambda: read_headers(file, file.name),
        "bytes": file.read_bytes,
        "read": lambda: reader.read(header),
        "preprocess": lambda: prepare(stored, header.encoding),
    }

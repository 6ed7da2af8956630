"""The proof of a whole chain: golden slices from their stored pixels to logits, on the executor that scores.

A backend alone is proved by `selftest`, from prepared bytes. What scores is more: preprocessing (on a GPU a kernel),
packing, two batches under way, CUDA graphs, and batches of changing sizes. So the same slices go through it too, in
batches of the largest size, of 1, of 7 and of the largest again, three times over: on a GPU the first round is launched
call by call, the second is recorded where graphs are used, the third replays them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle, Golden
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.results import Identity
from dtvit_edge.scoring.executor import CpuExecutor, Executor
from dtvit_edge.selftest import BATCHES, SelfTest, largest_deviation, require_passed, selftest
from dtvit_edge.spec import PreprocessSpec

if TYPE_CHECKING:
    from dtvit_edge.trt.backend import EngineBackend

BETWEEN = 7
ROUNDS = 3


def selftest_chain(bundle: Bundle, backend: Backend, batches: Sequence[int] = BATCHES) -> SelfTest:
    """The self-test of an opened backend, and of the executor that scores with it.

    Args:
        batches: sizes for the backend alone; the chain's come from the backend.
    """
    alone = selftest(bundle, backend, batches)
    golden = bundle.golden()
    slices = golden_slices(golden)
    with _open(bundle.manifest.spec, backend) as executor:
        differing = int((executor.prepared_bytes(slices) != golden.pixels).sum())
        chain = {}
        for number in range(ROUNDS if executor.depth > 1 else 1):
            for step, deviation in _interleaved(executor, golden, slices, order(executor.batch)):
                chain[f"round {number + 1}: {step}"] = deviation
    return replace(alone, differing_bytes=differing, chain=chain)


def prove_chain(bundle: Bundle, backend: Backend, batches: Sequence[int]) -> SelfTest:
    """A self-test of backend and chain that must pass.

    Raises:
        VerdictError: it does not; with what differs, and how far.
    """
    return require_passed(selftest_chain(bundle, backend, batches))


def order(largest: int) -> tuple[int, ...]:
    """Batch sizes in the order in which they are submitted: a graph or a shape of one must not leak into the next."""
    return largest, 1, min(BETWEEN, largest), largest


def golden_slices(golden: Golden) -> list[Slice]:
    """The golden slices as if they had been read from files."""
    slices = []
    for number, (stored, encoding) in enumerate(zip(golden.stored, golden.encodings, strict=True), start=1):
        rows, columns = stored.shape
        header = SliceHeader(Path("golden"), "golden", Identity(), number, len(golden), rows, columns, encoding)
        slices.append(Slice(header, stored))
    return slices


def _open(spec: PreprocessSpec, backend: Backend) -> AbstractContextManager[Executor]:
    if backend.on_gpu:
        from dtvit_edge.scoring.gpu_executor import GpuExecutor

        return GpuExecutor(spec, cast("EngineBackend", backend), backend.batch)
    return nullcontext(CpuExecutor(spec, backend, 0.0, backend.batch))


def _interleaved(
    executor: Executor, golden: Golden, slices: Sequence[Slice], sizes: Sequence[int]
) -> list[tuple[str, float]]:
    """The largest deviation of each batch, as many under way as the executor takes."""
    rows = [np.arange(start, start + size) % len(slices) for start, size in enumerate(sizes)]
    under_way: deque[int] = deque()
    deviations: dict[int, float] = {}

    def collect() -> None:
        place = under_way.popleft()
        deviations[place] = largest_deviation(executor.collect().logits, golden, rows[place])

    for place, indices in enumerate(rows):
        if len(under_way) == executor.depth:
            collect()
        executor.submit([executor.prepare(slices[i]) for i in indices.tolist()])
        under_way.append(place)
    while under_way:
        collect()
    return [(f"batch {size} as number {place + 1}", deviations[place]) for place, size in enumerate(sizes)]

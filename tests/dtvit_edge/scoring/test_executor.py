"""The executor on the CPU: which slices reach the model, and in batches of which size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.preprocess.cpu import PreparedSlice
from dtvit_edge.scoring.api import Options, open_executor
from dtvit_edge.scoring.executor import CpuExecutor
from dtvit_edge.spec import OUTPUT_SIZES, PreprocessSpec

SIDE = 4


class CountsBatches:
    """A backend whose answers depend on the size of the batch, as those in bf16 do."""

    name, precision, batch, on_gpu, proven = "counts", "fp32", 8, False, True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def infer(self, pixels: Any) -> Any:
        self.sizes.append(len(pixels))
        value = pixels[:, 0, 0, 0].astype(np.float32)[:, None] + len(pixels) / 1000
        return {name: np.repeat(value, size, axis=1) for name, size in OUTPUT_SIZES.items()}


def prepared(number: int, brain: float = 0.5) -> PreparedSlice:
    return PreparedSlice(np.full((1, SIDE, SIDE), number, np.uint8), 100, brain)


def answers(executor: CpuExecutor, *batch: PreparedSlice) -> list[float]:
    executor.submit(batch)
    result = executor.collect()
    assert result.inferred.tolist() == [p.brain_share >= 0.1 for p in batch]
    return [float(value) for value in result.logits["ich_logits"][:, 0]]


@pytest.mark.parametrize("padded", [True, False])
def test_a_padded_batch_gives_a_slice_the_same_answer_whatever_is_computed_with_it(padded: bool) -> None:
    backend = CountsBatches()
    executor = CpuExecutor(PreprocessSpec(), backend, 0.1, 4, padded=padded)  # type: ignore[arg-type]
    alone = answers(executor, prepared(7))
    among = answers(executor, prepared(3), prepared(1, brain=0.0), prepared(7), prepared(9))
    assert among[1] == 0.0, "no model has seen it"
    assert (among[2] == alone[0]) is padded
    assert backend.sizes == ([4, 4] if padded else [1, 3])


@pytest.mark.parametrize(
    ("options", "padded"),
    [({}, False), ({"hint": "f32"}, False), ({"hint": "bf16"}, True), ({"deterministic": True}, True)],
    ids=str,
)
def test_what_depends_on_the_batch_is_padded(tiny_bundle: Bundle, options: dict[str, Any], padded: bool) -> None:
    backend: Any = CountsBatches()
    with open_executor(tiny_bundle, backend, Options(**options)) as executor:
        assert (executor.padded, executor.fixed, executor.batch) == (padded, True, 8)

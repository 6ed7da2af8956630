"""What each quantizable op costs: quantised alone, how far does it move the logits?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.quantise import quantise
from calibration.quantizable import QuantizableOp
from calibration.ranges import Range
from dtvit_edge.backend import Logits
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.progress import Progress, silent
from evaluation.agreement import logit_error


@dataclass(frozen=True)
class Cost:
    """Root mean square logit error of one op, or of one block, quantised alone."""

    name: str
    rms: float


def rank(
    model: ModelProto,
    ops: Sequence[QuantizableOp],
    ranges: Mapping[str, Range],
    pixels: NDArray[np.uint8],
    reference: Logits,
    *,
    progress: Progress = silent,
) -> tuple[Cost, ...]:
    """Every op by its cost, the worst first.

    Args:
        pixels: (N, C, 224, 224) uint8, a few slices; reference: fp32's logits of them.
    """
    costs = []
    with progress("sensitivity", len(ops)) as step:
        for op in ops:
            logits = logits_of(quantise(model, [op], ranges), "int8", pixels)
            costs.append(Cost(op.name, logit_error(reference, logits)))
            step(1)
    return tuple(sorted(costs, key=lambda cost: (-cost.rms, cost.name)))


def by_block(costs: Sequence[Cost]) -> tuple[Cost, ...]:
    """The ops' costs added up over blocks, as independent errors add: the root of the sum of squares."""
    squares: dict[str, float] = {}
    for cost in costs:
        block = cost.name.rpartition(".")[0] or cost.name
        squares[block] = squares.get(block, 0.0) + cost.rms**2
    return tuple(sorted((Cost(b, float(np.sqrt(s))) for b, s in squares.items()), key=lambda c: (-c.rms, c.name)))

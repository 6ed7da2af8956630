"""Error against time, with "keep this op in higher precision" as the knob, and the point that a budget asks for.

Sensitivity says in which order ops are kept. Each point of the curve is a graph that was made and run: its error is the
root mean square of all logits against fp32, its time the processor time of one slice on ONNX Runtime as a share of what
the fp32 graph takes, both in turns within one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from calibration.quantizable import QuantizableOp
from calibration.sensitivity import Cost
from dtvit_edge.backend import Backend, Logits, in_batches
from dtvit_edge.backends.onnxruntime import BATCH, OnnxRuntimeBackend
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.progress import Progress, silent
from evaluation.agreement import logit_error
from evaluation.sampling import Pixels

RMS, LATENCY = "rms", "latency"
SYNTAX = f"{RMS}=ERROR or {LATENCY}=SHARE, as {RMS}=0.05 or {LATENCY}=0.4"
_THREADS = 1  # those that wait for work would count as processor time
_ROUNDS = 9  # of one slice through every graph of the curve


@dataclass(frozen=True)
class Budget:
    """What int8 may cost.

    Attributes:
        kind: `RMS`, an error in logits, or `LATENCY`, a share of fp32's time; limit: the largest.
    """

    kind: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `rms=0.05` or `latency=0.4`.

        Raises:
            ConfigError: neither of them.
        """
        kind, _, value = text.partition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = 0.0
        if kind not in (RMS, LATENCY) or not 0 < limit < float("inf"):
            raise ConfigError(f"the budget is {text!r}, expected {SYNTAX}")
        return cls(kind, limit)


@dataclass(frozen=True)
class Point:
    """One graph of the curve.

    Attributes:
        kept: how many of the costliest ops stay in higher precision.
        rms: of the logits; time: of one slice, as a share of the fp32 graph's.
    """

    kept: int
    rms: float
    time: float


def steps(most: int) -> Iterator[int]:
    """How many ops the points keep: 0, 1, 2, 4, 8 and so on, and `most`."""
    yield 0
    kept = 1
    while kept < most:
        yield kept
        kept *= 2
    if most:
        yield most


def without_costliest(ops: Sequence[QuantizableOp], costs: Sequence[Cost], kept: int) -> tuple[QuantizableOp, ...]:
    """The ops that are quantised where so many of the costliest are kept in higher precision."""
    higher = {cost.name for cost in costs[:kept]}
    return tuple(op for op in ops if op.name not in higher)


def curve(
    quantised: Callable[[Sequence[QuantizableOp]], bytes],
    fp32: bytes,
    ops: Sequence[QuantizableOp],
    costs: Sequence[Cost],
    pixels: Pixels,
    reference: Logits,
    *,
    most: int,
    progress: Progress = silent,
) -> tuple[Point, ...]:
    """The points of the curve, the one that keeps nothing first.

    Args:
        quantised: makes the graph in which these ops are quantised.
        costs: of the ops, the worst first; pixels, reference: a few slices with fp32's logits of them.
        most: the largest number of ops that may be kept.
    """
    errors = {}
    kept_ops = list(steps(min(most, len(ops) - 1)))
    with ExitStack() as stack, progress("error against time", len(kept_ops) + 1) as step:

        def opened(model: bytes, precision: str) -> Backend:
            return stack.enter_context(OnnxRuntimeBackend(lambda: model, precision, threads=_THREADS))

        graphs = [opened(fp32, "fp32")]
        for kept in kept_ops:
            graphs.append(opened(quantised(without_costliest(ops, costs, kept)), "int8"))
            errors[kept] = logit_error(reference, in_batches(graphs[-1].infer, pixels, BATCH))
            step(1)
        whole, *shares = _processor_times(graphs, pixels)
        step(1)
    return tuple(Point(kept, errors[kept], share / whole) for kept, share in zip(kept_ops, shares, strict=True))


def choose(points: Sequence[Point], budget: Budget) -> Point:
    """The point that a budget asks for: the fastest within an error, or the most exact within a time.

    Raises:
        VerdictError: no point keeps it.
    """

    def figure(point: Point) -> float:
        return point.rms if budget.kind == RMS else point.time

    within = [point for point in points if figure(point) <= budget.limit]
    if not within:
        least = min(points, key=figure)
        raise VerdictError(
            f"no graph keeps the budget of {budget.kind}={budget.limit:g}; with {least.kept} ops in higher precision "
            f"it is {figure(least):.3g}"
        )
    # More ops kept is slower in truth, whatever a clock said of two graphs that hardly differ.
    return min(within, key=lambda p: p.kept) if budget.kind == RMS else max(within, key=lambda p: p.kept)


def _processor_times(graphs: Sequence[Backend], pixels: Pixels) -> list[float]:
    """Seconds of one slice through each, medians over rounds in which all take turns; other processes do not count."""
    samples: list[list[float]] = [[] for _ in graphs]
    for round_ in range(_ROUNDS + 1):
        for graph, taken in zip(graphs, samples, strict=True):
            began = time.process_time()
            graph.infer(pixels[:1])
            if round_:  # the first warms up
                taken.append(time.process_time() - began)
    return [statistics.median(taken) for taken in samples]

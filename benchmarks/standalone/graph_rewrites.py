"""What the exact graph rewrites are worth: the exported graph against a plain export of the same weights.

    python -m benchmarks.standalone.graph_rewrites --encoder vit_base_patch16_224 --rounds 12

Both run in one process on ONNX Runtime with one thread, batch 1, in alternating rounds, so that whatever else
the machine does falls on both. Inside the timer is `session.run` alone; the plain graph is handed float input
that was normalised outside of it. The two must agree before either is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.results import record_option
from dtvit_edge.bundle import FP32_FLOOR
from dtvit_edge.cli import render
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, PreprocessSpec, digest_bytes
from evaluation.records import Record, append, ratio_summary
from export.encoders import DEFAULT_ENCODER
from export.model import normalise
from export.onnx_graph import export_fp32, open_session, plain_export
from export.rewrites import rewrite
from export.untrained import untrained_model

WHAT = "graph rewrites, ONNX Runtime, 1 thread, batch 1"


@dataclass(frozen=True)
class Measurement:
    """One comparison. Times are medians of a round's runs.

    Attributes:
        digests: sha256 of the two ONNX files.
        difference: largest |logit difference| between the two graphs on the timed input.
    """

    plain_ms: list[float]
    rewritten_ms: list[float]
    digests: dict[str, str]
    difference: float

    @property
    def summary(self) -> dict[str, float]:
        """How many times faster the rewritten graph is, round by round, and the median times."""
        return {
            **ratio_summary(self.plain_ms, self.rewritten_ms),
            "plain_ms_median": statistics.median(self.plain_ms),
            "rewritten_ms_median": statistics.median(self.rewritten_ms),
            "max_abs_difference": self.difference,
        }


def measure(encoder: str, rounds: int, runs: int) -> Measurement:
    """Time both graphs of a seeded, untrained model on one seeded slice.

    Args:
        rounds: each times `runs` calls of one graph, then of the other; who is first alternates.

    Raises:
        VerdictError: the two graphs disagree by more than the fp32 tolerance.
    """
    spec = PreprocessSpec()
    model = untrained_model(encoder)
    graphs = {
        "plain": plain_export(model),
        "rewritten": export_fp32(rewrite(model, spec).module, spec.channels),
    }
    pixels = np.random.default_rng(0).integers(0, 256, (1, spec.channels, spec.crop, spec.crop), dtype=np.uint8)
    inputs = {"plain": normalise(torch.from_numpy(pixels), spec).numpy(), "rewritten": pixels}
    sessions = {graph: open_session(onnx_bytes, threads=1) for graph, onnx_bytes in graphs.items()}
    calls = {graph: _call(sessions[graph], inputs[graph]) for graph in graphs}
    plain, rewritten = calls["plain"](), calls["rewritten"]()
    difference = float(np.max([np.abs(a - b).max() for a, b in zip(plain, rewritten, strict=True)]))
    if not difference <= FP32_FLOOR:
        raise VerdictError(f"{encoder}: the two graphs differ by {difference:.3g}; nothing was timed")
    times = alternate(calls, rounds, runs)
    digests = {graph: digest_bytes(onnx_bytes) for graph, onnx_bytes in graphs.items()}
    return Measurement(times["plain"], times["rewritten"], digests, difference)


@click.command()
@click.option(
    "--encoder", default=DEFAULT_ENCODER, show_default=True, help="Take this encoder, by timm's name, or alexnet."
)
@click.option(
    "--rounds", default=12, show_default=True, type=click.IntRange(min=LEAST_ROUNDS), help="Time this many rounds."
)
@click.option(
    "--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Make this many calls in a round."
)
@record_option()
def main(encoder: str, rounds: int, runs: int, out: Path) -> None:
    """Measure how much faster the exact graph rewrites make a model on one CPU core."""
    measurement = measure(encoder, rounds, runs)
    samples = {"plain": measurement.plain_ms, "rewritten": measurement.rewritten_ms}
    for graph, values in samples.items():
        render.echo(f"{graph:<10} ms by round: {' '.join(f'{value:.2f}' for value in values)}")
    summary = measurement.summary
    median, low, high = (summary[f"ratio_{name}"] for name in ("median", "lower_quartile", "upper_quartile"))
    render.echo(
        f"{encoder}: {median:.3f} times faster (quartiles {low:.3f} to {high:.3f}), "
        f"logits within {measurement.difference:.2g}"
    )
    options = {
        "encoder": encoder,
        "rounds": rounds,
        "runs": runs,
        "threads": 1,
        "batch": 1,
        "command": f"python -m benchmarks.standalone.graph_rewrites --encoder {encoder} "
        f"--rounds {rounds} --runs {runs}",
    }
    append(out, Record(WHAT, "ms", samples, summary, digests=measurement.digests, options=options))


def _call(session: InferenceSession, values: NDArray[Any]) -> Callable[[], list[NDArray[np.float32]]]:
    return lambda: session.run(list(OUTPUT_NAMES), {INPUT_NAME: values})


if __name__ == "__main__":
    main()

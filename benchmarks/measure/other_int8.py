"""INT8 by other tools beside the bundle's own: the error at home and under shifts of the scanner, and the time.

Every tool quantises the bundle's fp32 graph with ranges from the slices that gave the bundle's own, which their digests
tell. Errors are against the logits that everything else is judged by; the times of one slice alternate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import latency
from benchmarks.measure.accuracy import Reference
from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers import QUANTISERS, Peer
from benchmarks.results.names import key_of
from benchmarks.settings import Settings
from calibration.quantise import placement
from dtvit_edge import backends
from dtvit_edge.backend import Backend, Logits, in_batches, softmax
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import ICH_OUTPUT
from evaluation.agreement import DecisionRule, logit_error, slice_agreement
from evaluation.sampling import Pixels, SliceSet, candidates, load_set

OURS, INT8 = "dtvit-edge", "int8"
BACKENDS = ("onnxruntime", "openvino")
_BATCH = 8
# Slices at home, and under each shift, by which tools are compared: their errors differ by far more than chance.
_SLICES, _SHIFTED = 128, 32


@dataclass(frozen=True)
class OtherInt8:
    """The int8 files of the bundle and of other tools.

    Attributes:
        files: ONNX files by tool; left_out: why a tool has none, by its name.
        ranges: how many slices gave them.
    """

    files: dict[str, bytes]
    left_out: dict[str, str]
    ranges: int

    def ops(self) -> dict[str, dict[str, int]]:
        """By tool, how many ops with a weight there are and how many are quantised."""
        return {tool: placement(data) for tool, data in self.files.items()}


def calibration_pixels(bundle: Bundle, sources: Sequence[str], progress: Progress = silent) -> Pixels:
    """Those slices of the sources that gave the bundle's ranges; empty where none did.

    Returns:
        (N, C, 224, 224) uint8.
    """
    spec = bundle.manifest.spec
    wanted = set((bundle.manifest.calibration or {}).get("slices", {}).get("calibration", ()))
    pool = candidates([Path(source) for source in sources], progress=progress)
    every = load_set(pool, len(pool), spec, seed=0, name="calibration", progress=progress)
    return every.pixels[[i for i, digest in enumerate(every.labels.digests) if digest in wanted]]


def quantise(bundle: Bundle, settings: Settings, progress: Progress = silent) -> OtherInt8:
    """Let every tool that was asked for and is here quantise the bundle's fp32 graph."""
    asked = [peer for peer in QUANTISERS if peer.name in settings.peers]
    if settings.effort.quick:
        return OtherInt8({}, _for_all(asked, "takes minutes; --quick leaves it out"), 0)
    if not asked:
        return OtherInt8({}, {}, 0)
    if INT8 not in bundle.manifest.models:
        return OtherInt8({}, _for_all(asked, "the bundle has no int8 to stand beside"), 0)
    if not settings.calibration_slices:
        return OtherInt8({}, _for_all(asked, "needs the slices that gave the ranges: --calibration-slices"), 0)
    pixels = calibration_pixels(bundle, settings.calibration_slices, progress)
    if not len(pixels):
        return OtherInt8({}, _for_all(asked, "not one of --calibration-slices gave the bundle's ranges"), 0)
    files: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    fp32 = bundle.model_bytes("fp32")
    with progress("int8 by other tools", len(asked)) as step:
        for peer in asked:
            why_not = peer.why_not()
            if why_not is None:
                try:
                    files[peer.name] = peer.load()(fp32, pixels)
                except Exception as error:  # whatever a tool raises is its answer
                    why_not = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if why_not is not None:
                left_out[peer.name] = why_not
            step(1)
    ours = {OURS: bundle.model_bytes(INT8)} if files else {}
    return OtherInt8(ours | files, left_out, len(pixels))


def measure(
    bundle: Bundle, other: OtherInt8, reference: Reference, slices: SliceSet, settings: Settings, yardstick: Yardstick,
    progress: Progress = silent,
) -> tuple[dict[str, list[float]], dict[str, float], dict[str, str]]:  # fmt: skip
    """Errors on ONNX Runtime, and the milliseconds of one slice on every CPU backend that is here.

    Returns:
        Samples by `TOOL on BACKEND`, figures by `TOOL: FIGURE`, and why a tool's file does not run, by contender.
    """
    rule = DecisionRule.of(bundle)
    summary: dict[str, float] = {}
    refused: dict[str, str] = {}
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        opened: dict[str, Backend] = {}
        for backend in (name for name in BACKENDS if backends.availability()[name] is None):
            for tool, data in other.files.items():
                try:
                    created = backends.create(backend, _giving(data), INT8, threads=settings.threads)
                    opened[f"{tool} on {backend}"] = stack.enter_context(created)
                except DtvitError as error:
                    refused[f"{tool} on {backend}"] = str(error).splitlines()[0]
        judged = [tool for tool in other.files if f"{tool} on {BACKENDS[0]}" in opened]
        with progress("errors of int8 by other tools", len(judged)) as step:
            for tool in judged:
                figures = errors(opened[f"{tool} on {BACKENDS[0]}"].infer, reference, slices, rule)
                summary |= {key_of(tool, name): value for name, value in figures.items()}
                step(1)
        calls = {name: latency.one_slice(backend.infer, slices.pixels) for name, backend in opened.items()}
        if calls:
            _, samples = latency.measure(calls, settings.effort, yardstick, pools=settings.threads != 1)
    return samples, summary, refused


def errors(
    infer: Callable[[Pixels], Mapping[str, np.ndarray]], reference: Reference, slices: SliceSet, rule: DecisionRule
) -> dict[str, float]:
    """What `compared` gives, at home and over all shifts together."""
    home = [(slices.pixels[:_SLICES], _first(reference.logits, _SLICES))]
    shifted = [(some.pixels[:_SHIFTED], _first(known, _SHIFTED)) for some, known in reference.shifted.values()]
    figures: dict[str, float] = {}
    for name, sets in (("home", home), ("shifts", shifted)):
        if sets:
            known = _joined(logits for _, logits in sets)
            answered = _joined(in_batches(infer, pixels, _BATCH) for pixels, _ in sets)
            figures |= {f"{name}, {figure}": value for figure, value in compared(known, answered, rule).items()}
    return figures


def compared(known: Logits, answered: Logits, rule: DecisionRule) -> dict[str, float]:
    """Flips, differences of the haemorrhage probability and the rms logit error of one set of slices, against fp32."""
    p, q = (softmax(logits[ICH_OUTPUT])[:, 1] for logits in (known, answered))
    agreement = slice_agreement(p, q, rule.threshold)
    return {
        "slices": float(agreement.slices),
        "flips": float(agreement.flips),
        "mean_difference": agreement.mean_difference,
        "high_difference": agreement.high_difference,
        "rms": logit_error(known, answered),
    }


def _first(logits: Logits, count: int) -> Logits:
    return {name: values[:count] for name, values in logits.items()}


def _joined(parts: Iterable[Logits]) -> Logits:
    several = list(parts)
    return {name: np.concatenate([part[name] for part in several]) for name in several[0]}


def _giving(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _for_all(peers: Sequence[Peer], why_not: str) -> dict[str, str]:
    return {peer.name: why_not for peer in peers}

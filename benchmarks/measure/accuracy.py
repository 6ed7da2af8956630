"""Accuracy first: every side on the golden slices and on a set of slices, before anything is timed.

The reference is the bundle's `model.fp32.onnx` on ONNX Runtime, whose parity with PyTorch the manifest records; with
the weights it is PyTorch itself, on the same slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.configurations import Side
from benchmarks.results import names
from benchmarks.results.names import part
from benchmarks.settings import Settings
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.progress import Progress, silent
from dtvit_edge.selftest import SelfTest, selftest
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT, OUTPUT_NAMES
from evaluation import gate
from evaluation.gate import Logits, Verdict, softmax
from evaluation.metrics import HeadFigures, ich_figures, location_figures
from evaluation.records import head_summary
from evaluation.sampling import Pixels, SliceSet

REFERENCE_BACKEND = "onnxruntime"
PYTORCH = "PyTorch eager fp32"
BATCH = 8


@dataclass(frozen=True)
class Reference:
    """What every side is compared with.

    Attributes:
        name: of the model that gave it; logits: (N, 2) and (N, 3) by output name.
        backend: that gave them, where it is one that is timed: it need not be asked twice.
    """

    name: str
    logits: Logits
    backend: Backend | None = None


@dataclass(frozen=True)
class Judged:
    """What was found of one side.

    Attributes:
        ich, location: against the labels; None where nobody labelled any, or the head is untrained.
    """

    side: Side
    selftest: SelfTest
    gate: Verdict
    logits: Logits
    ich: HeadFigures | None
    location: HeadFigures | None

    @property
    def why_not(self) -> str | None:
        """Why it gets no latency, or None. Too few slices prove nothing, but are no reason against."""
        if not self.selftest.passed:
            return (
                f"{self.selftest.worst:.3g} from PyTorch's logits on the golden slices, "
                f"{self.selftest.tolerance:.3g} is allowed"
            )
        return "; ".join(self.gate.reasons) if self.gate.verdict == gate.FAILED else None

    def summary(self) -> dict[str, float]:
        """Its figures for a record, by `SIDE: FIGURE`."""
        g = self.gate
        own = {
            "selftest_worst": self.selftest.worst,
            "selftest_tolerance": self.selftest.tolerance,
            "agreement": g.ich.agreement,
            "flips": float(g.ich.flips),
            "largest_difference": g.ich.largest_difference,
            "mean_difference": g.ich.mean_difference,
            "rms": g.rms,
        }
        own |= {"location_agreement": g.location.agreement} if g.location else {}
        own |= {"auc_difference": g.auc - g.auc_reference} if g.auc is not None and g.auc_reference is not None else {}
        for head, found in (("ich", self.ich), (LOCATION_HEAD, self.location)):
            own |= head_summary(head, found) if found else {}
        return {part(self.side.name, figure): value for figure, value in own.items() if np.isfinite(value)}


def reference(
    bundle: Bundle,
    pixels: Pixels,
    pytorch: Callable[[Pixels], Logits] | None,
    opened: Backend | None,
    progress: Progress = silent,
) -> Reference:
    """The logits that count as right.

    Args:
        pytorch: (n, C, 224, 224) uint8 to logits, where the weights are there.
        opened: the reference's own side, where it is opened already.
    """
    if pytorch is not None:
        with progress(f"reference: {PYTORCH}", len(pixels)) as step:
            return Reference(PYTORCH, in_batches(pytorch, pixels, step))
    side = reference_side(bundle)
    with progress(f"reference: {side.name}", len(pixels)) as step, ExitStack() as stack:
        backend = opened or stack.enter_context(side.create(None))
        return Reference(side.name, in_batches(backend.infer, pixels, step), opened)


def reference_side(bundle: Bundle) -> Side:
    """What is the reference where there are no weights."""
    return Side(bundle, REFERENCE_BACKEND, REFERENCE_PRECISION)


def judge(
    side: Side, backend: Backend, slices: SliceSet, right: Reference, settings: Settings, progress: Progress = silent
) -> Judged:
    """Judge one opened backend; it is the one that is timed afterwards."""
    manifest = side.bundle.manifest
    test = selftest(side.bundle, backend, settings.effort.selftest)
    with progress(f"judging {side.name}", len(slices)) as step:
        logits = right.logits if right.backend is backend else in_batches(backend.infer, slices.pixels, step)
    trained = LOCATION_HEAD not in manifest.untrained_heads
    verdict = gate.compare_with_fp32(
        side.precision,
        right.logits,
        logits,
        slices.labels,
        threshold=manifest.ich_threshold,
        location_trained=trained,
        limits=settings.limits,
        seed=settings.seed,
        intervals=False,
    )
    ich, location = against_labels(
        logits,
        slices,
        manifest.ich_threshold,
        location_trained=trained,
        seed=settings.seed,
        resamples=None if settings.effort.intervals else 0,
    )
    return Judged(side, test, verdict, logits, ich, location)


def against_labels(
    logits: Logits,
    slices: SliceSet,
    threshold: float,
    *,
    location_trained: bool,
    seed: int,
    resamples: int | None = None,
) -> tuple[HeadFigures | None, HeadFigures | None]:
    """Both heads against what was labelled; None where nothing was, or a logit is not finite.

    Args:
        seed, resamples: of the bootstrap, as of `evaluation.metrics.ich_figures`.
    """
    cases = slices.labels
    if not all(np.isfinite(values).all() for values in logits.values()):
        return None, None

    def patients(rows: NDArray[np.int64]) -> list[str]:
        return [cases.patients[i] for i in rows]

    ich, location = None, None
    rows = np.flatnonzero(cases.ich >= 0)
    if len(rows):
        p = softmax(logits[ICH_OUTPUT])[rows, 1]
        ich = ich_figures(cases.ich[rows], p, patients(rows), threshold=threshold, seed=seed, resamples=resamples)
    if location_trained and cases.location is not None and len(rows := np.flatnonzero(cases.location >= 0)):
        shares = softmax(logits[LOCATION_OUTPUT])[rows]
        location = location_figures(cases.location[rows], shares, patients(rows), seed=seed, resamples=resamples)
    return ich, location


def samples(judged: Iterable[Judged], slices: SliceSet) -> dict[str, list[float]]:
    """What a record keeps of the slices: probabilities and likeliest locations by side, labels, patients as numbers.

    A side with a logit that is not finite has no probabilities, and none here.
    """
    found: dict[str, list[float]] = {}
    for one in judged:
        name, logits = one.side.name, one.logits
        if not all(np.isfinite(values).all() for values in logits.values()):
            continue
        found[name] = softmax(logits[ICH_OUTPUT])[:, 1].tolist()
        if LOCATION_HEAD not in one.side.bundle.manifest.untrained_heads:
            found[part(name, LOCATION_HEAD)] = logits[LOCATION_OUTPUT].argmax(axis=1).astype(float).tolist()
    cases = slices.labels
    found[names.LABELS] = cases.ich.astype(float).tolist()
    if cases.location is not None:
        found[names.LOCATIONS] = cases.location.astype(float).tolist()
    order = {patient: float(i) for i, patient in enumerate(dict.fromkeys(cases.patients))}
    found[names.PATIENTS] = [order[patient] for patient in cases.patients]
    return found


def in_batches(
    infer: Callable[[Pixels], Mapping[str, NDArray[np.float32]]],
    pixels: Pixels,
    step: Callable[[int], None] = lambda slices: None,
) -> Logits:
    """All slices, `BATCH` at a time; logits by output name."""
    parts = []
    for start in range(0, len(pixels), BATCH):
        part = pixels[start : start + BATCH]
        parts.append(dict(infer(part)))
        step(len(part))
    return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUT_NAMES}

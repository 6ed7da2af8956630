"""Accuracy first: every configuration on the golden slices and on a set of slices, before anything is timed.

The reference is the bundle's `model.fp32.onnx` on ONNX Runtime, whose parity with PyTorch the manifest records; with
the weights it is PyTorch itself, on the same slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure.configurations import Configuration
from benchmarks.results import names
from benchmarks.results.names import key_of
from benchmarks.settings import Settings
from dtvit_edge.backend import Backend, Logits, in_batches, softmax
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.progress import Progress, silent
from dtvit_edge.selftest import SelfTest, selftest
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT
from evaluation import gate
from evaluation.agreement import DecisionRule
from evaluation.gate import Compared, Verdict
from evaluation.metrics import HeadFigures, ich_figures, location_figures
from evaluation.records import head_summary
from evaluation.sampling import Pixels, SliceSet
from evaluation.scanner_shifts import shifted_sets

REFERENCE_BACKEND = "onnxruntime"
PYTORCH = "PyTorch eager fp32"
BATCH = 8


@dataclass(frozen=True)
class Reference:
    """What every configuration is compared with.

    Attributes:
        name: of the model that gave it; logits: (N, 2) and (N, 3) by output name.
        shifted: the slices under each shift of the scanner, and the logits of those.
        backend: that gave them, where it is one that is timed: it need not be asked twice.
    """

    name: str
    logits: Logits
    shifted: dict[str, tuple[SliceSet, Logits]]
    backend: Backend | None = None


@dataclass(frozen=True)
class ConfigurationAccuracy:
    """How right one configuration is.

    Attributes:
        ich, location: against the labels; None where nobody labelled any, or the head is untrained.
    """

    configuration: Configuration
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
        """Its figures for a record, by `CONFIGURATION: FIGURE`."""
        g = self.gate
        figures = {
            "selftest_worst": self.selftest.worst,
            "selftest_tolerance": self.selftest.tolerance,
            "agreement": g.ich.agreement,
            "flips": float(g.ich.flips),
            "largest_difference": g.ich.largest_difference,
            "mean_difference": g.ich.mean_difference,
            "rms": g.rms,
            "high_difference": g.ich.high_difference,
        }
        figures |= {"study_agreement": g.studies.agreement} if g.studies else {}
        for one in g.elsewhere:
            figures |= {
                f"{one.name}, agreement": one.ich.agreement,
                f"{one.name}, high_difference": one.ich.high_difference,
            }
        figures |= {"location_agreement": g.location.agreement} if g.location else {}
        figures |= (
            {"auc_difference": g.auc - g.auc_reference} if g.auc is not None and g.auc_reference is not None else {}
        )
        for head, head_figures in (("ich", self.ich), (LOCATION_HEAD, self.location)):
            figures |= head_summary(head, head_figures) if head_figures else {}
        return {
            key_of(self.configuration.name, figure): value for figure, value in figures.items() if np.isfinite(value)
        }


def make_reference(
    bundle: Bundle,
    slices: SliceSet,
    settings: Settings,
    pytorch: Callable[[Pixels], Logits] | None,
    opened: Backend | None,
    progress: Progress = silent,
) -> Reference:
    """The logits that count as right, of the slices as they are and under each shift of the scanner.

    Args:
        pytorch: (n, C, 224, 224) uint8 to logits, where the weights are there.
        opened: the backend of `reference_configuration`, where it is open already.
    """
    configuration, limits = reference_configuration(bundle), settings.gate_limits
    name = configuration.name if pytorch is None else PYTORCH
    spec, shifted = bundle.manifest.spec, {}
    if limits.shift_slices:
        shifted = shifted_sets(slices, spec, seed=settings.seed, count=limits.shift_slices, progress=progress)
    with ExitStack() as stack:
        infer: Callable[[Pixels], Mapping[str, NDArray[np.float32]]]
        infer = pytorch or (opened or stack.enter_context(configuration.create(None))).infer

        def logits_of(shown: SliceSet) -> Logits:
            with progress(f"reference: {name}", len(shown)) as step:
                return in_batches(infer, shown.pixels, BATCH, step)

        known = {shift: (some, logits_of(some)) for shift, some in shifted.items()}
        return Reference(name, logits_of(slices), known, None if pytorch else opened)


def reference_configuration(bundle: Bundle) -> Configuration:
    """What is the reference where there are no weights."""
    return Configuration(bundle, REFERENCE_BACKEND, REFERENCE_PRECISION)


def evaluate(
    configuration: Configuration,
    backend: Backend,
    slices: SliceSet,
    reference: Reference,
    settings: Settings,
    progress: Progress = silent,
) -> ConfigurationAccuracy:
    """Compare one opened backend with the reference and the labels; it is the one that is timed afterwards."""
    rule = DecisionRule.of(configuration.bundle)
    test = selftest(configuration.bundle, backend, settings.effort.selftest)

    def logits_of(shown: SliceSet, known: Logits) -> Logits:
        if reference.backend is backend:
            return known
        with progress(f"accuracy of {configuration.name}", len(shown)) as step:
            return in_batches(backend.infer, shown.pixels, BATCH, step)

    logits = logits_of(slices, reference.logits)
    verdict = gate.compare_with_fp32(
        configuration.precision,
        reference.logits,
        logits,
        slices.labels,
        rule=rule,
        limits=settings.gate_limits,
        elsewhere=[
            Compared(shift, known, logits_of(some, known), some.labels)
            for shift, (some, known) in reference.shifted.items()
        ],
        seed=settings.seed,
        intervals=False,
    )
    ich, location = against_labels(
        logits,
        slices,
        rule.threshold,
        location_trained=rule.location_trained,
        seed=settings.seed,
        resamples=None if settings.effort.intervals else 0,
    )
    return ConfigurationAccuracy(configuration, test, verdict, logits, ich, location)


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


def samples(accuracies: Iterable[ConfigurationAccuracy], slices: SliceSet) -> dict[str, list[float]]:
    """What a record keeps of the slices: probabilities and likeliest locations by configuration, labels, and patients.

    Patients are numbers in order of appearance. A configuration with a logit that is not finite has no
    probabilities, and none here.
    """
    kept: dict[str, list[float]] = {}
    for accuracy in accuracies:
        name, logits = accuracy.configuration.name, accuracy.logits
        if not all(np.isfinite(values).all() for values in logits.values()):
            continue
        kept[name] = softmax(logits[ICH_OUTPUT])[:, 1].tolist()
        if LOCATION_HEAD not in accuracy.configuration.bundle.manifest.untrained_heads:
            kept[key_of(name, LOCATION_HEAD)] = logits[LOCATION_OUTPUT].argmax(axis=1).astype(float).tolist()
    cases = slices.labels
    kept[names.ICH_LABELS] = cases.ich.astype(float).tolist()
    if cases.location is not None:
        kept[names.LOCATION_LABELS] = cases.location.astype(float).tolist()
    order = {patient: float(i) for i, patient in enumerate(dict.fromkeys(cases.patients))}
    kept[names.PATIENTS] = [order[patient] for patient in cases.patients]
    return kept

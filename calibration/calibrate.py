"""Adds the int8 and fp8 files to a bundle and passes every lower precision through the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from calibration.activations import ChannelRange, channel_ranges, histograms
from calibration.float8 import quantise_fp8
from calibration.quantise import checked, placement, quantise, typed
from calibration.quantizable import RECIPES, QuantizableOp, attention_ops, weight_ops
from calibration.ranges import METHODS, Range
from calibration.sensitivity import Cost, by_block, rank
from calibration.smoothing import ALPHA, smooth
from dtvit_edge.bundle import MODEL_FILES, Bundle, FileRecord, tolerance_of, write_bundle
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.selftest import largest_deviation
from dtvit_edge.spec import LOCATION_HEAD
from evaluation import gate
from evaluation.gate import Logits, Verdict
from evaluation.limits import Limits
from evaluation.sampling import SETS, Pixels, SliceSet
from export.bundle_export import versions
from export.facts import quantised_facts
from export.onnx_graph import open_session
from export.parity import run_batches

BATCH = 8
LOWER = ("fp16", "int8", "int8-fp16", "fp8")


@dataclass(frozen=True)
class Config:
    """The options of a calibration.

    Attributes:
        recipe: which ops are quantised, one of `quantizable.RECIPES`.
        alpha: exponent of outlier smoothing; None leaves the graph as it is.
        calibration_slices, validation_slices, test_slices: the largest number of slices in each set.
        sensitivity_slices: how many slices of the validation set rank the ops.
        keep_higher_limit: largest share of the ops that may be kept in higher precision, 0 to 1.
        limits: what the gate asks for; seed: of the sampling and of the bootstrap.
    """

    recipe: str = RECIPES[0]
    alpha: float | None = ALPHA
    calibration_slices: int = 512
    validation_slices: int = 256
    test_slices: int = 2000
    sensitivity_slices: int = 16
    keep_higher_limit: float = 0.5
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe is {self.recipe!r}, expected one of {', '.join(RECIPES)}")

    @property
    def set_sizes(self) -> dict[str, int]:
        """The largest number of slices in each set, by its name."""
        return dict(zip(SETS, (self.calibration_slices, self.validation_slices, self.test_slices), strict=True))


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration gave; `bundle` is the new one, with every precision that passed.

    Attributes:
        method: which one gave the ranges.
        methods: by name, flips on both heads on the validation set, and the rms logit error there and on shifted sets.
        kept_higher: names of the ops that were kept in higher precision.
        sizes: share of the fp32 file's bytes, by precision.
        slices: how many each set held.
    """

    bundle: Bundle
    method: str
    methods: dict[str, tuple[int, float]]
    costs: tuple[Cost, ...]
    kept_higher: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    sizes: dict[str, float]
    slices: dict[str, int]

    @property
    def passed(self) -> bool:
        """True where every lower precision holds."""
        return all(v.verdict == gate.PASSED for v in self.verdicts)


def calibrate(
    bundle: Bundle,
    sets: Mapping[str, SliceSet],
    config: Config,
    *,
    shifted: Mapping[str, SliceSet] = MappingProxyType({}),
    progress: Progress = silent,
) -> CalibrationResult:
    """Add int8 and fp8, gate every lower precision, and install what passes; all of it or nothing is written.

    Args:
        sets: the slices of `calibration`, `validation` and `test` (`sampling.load_sets`).
        shifted: the validation slices as other scanners would show them, by name; the method is chosen on them as well.

    Raises:
        BundleError: a thin copy; every file is written anew.
        VerdictError: a range that is not finite, or a graph that does not check.
    """
    bundle.require_whole()
    calibrator = _Calibrator(bundle, sets, config, progress)
    smoothed, spans = calibrator.smoothed()
    with progress("histograms", len(sets["calibration"])) as step:
        largest = {name: span.largest for name, span in spans.items()}
        counted = histograms(smoothed.SerializeToString(), largest, sets["calibration"].pixels, step=step)
    ranges: dict[str, dict[str, Range]] = {}
    with progress("ranges", len(METHODS)) as step:
        for method, threshold in METHODS.items():
            ranges[method] = {name: spans[name].to(threshold(histogram)) for name, histogram in counted.items()}
            step(1)
    method, methods = calibrator.choose_method(smoothed, ranges, shifted)
    few = sets["validation"].pixels[: config.sensitivity_slices]
    reference = {name: values[: len(few)] for name, values in calibrator.reference("validation").items()}
    costs = rank(smoothed, calibrator.ops, ranges[method], few, reference, progress=progress)
    quantised, kept_higher = calibrator.keep_worst_higher(smoothed, ranges[method], costs)
    files = {"int8": checked(quantise(smoothed, quantised, ranges[method]), calibrator.channels)}
    files["int8-fp16"] = typed(files["int8"], calibrator.channels)
    files["fp8"] = quantise_fp8(smoothed, [op for op in calibrator.ops if not op.attention], spans, calibrator.channels)
    if "fp16" in bundle.manifest.models:
        files["fp16"] = bundle.model_bytes("fp16")
    verdicts = tuple(calibrator.assess(name, files[name], "test") for name in LOWER if name in files)
    summary = {
        "method": method,
        "methods": {name: {"flips": flips, "rms": rms} for name, (flips, rms) in methods.items()},
        "ranges": {name: [span.low, span.high] for name, span in ranges[method].items()},
        "kept_higher": list(kept_higher),
        "ops": {name: placement(files[name]) for name in ("int8", "int8-fp16", "fp8")},
        "sensitivity": {"ops": [asdict(c) for c in costs], "blocks": [asdict(c) for c in by_block(costs)]},
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "slices": {name: list(slices.labels.digests) for name, slices in sets.items()},
        "config": asdict(config),
        "versions": versions(),
    }
    installed = _install(bundle, files, verdicts, summary)
    sizes = {name: len(data) / len(calibrator.fp32) for name, data in files.items()}
    counts = {name: len(slices) for name, slices in sets.items()}
    return CalibrationResult(installed, method, methods, costs, kept_higher, verdicts, sizes, counts)


class _Calibrator:
    """The steps of a calibration over one fp32 graph; its quantizable ops and its logits are computed once."""

    def __init__(self, bundle: Bundle, sets: Mapping[str, SliceSet], config: Config, progress: Progress) -> None:
        self.bundle, self.sets, self.config, self.progress = bundle, sets, config, progress
        self.fp32 = bundle.model_bytes("fp32")
        self.model: ModelProto = onnx.load_model_from_string(self.fp32)
        self.ops = weight_ops(self.model)
        if config.recipe == "attention":
            self.ops += attention_ops(self.model)
        self.channels = bundle.manifest.spec.channels
        self._reference: dict[str, Logits] = {}

    def reference(self, name: str) -> Logits:
        """The logits of fp32 on a set."""
        if name not in self._reference:
            self._reference[name] = self.run("fp32", self.fp32, self.sets[name].pixels)
        return self._reference[name]

    def run(self, name: str, data: bytes, pixels: Pixels) -> Logits:
        """The logits of a model file on ONNX Runtime; `name` is what the progress shows."""
        with self.progress(name, len(pixels)) as step:
            return run_batches(open_session(data), pixels, BATCH, step)

    def smoothed(self) -> tuple[ModelProto, dict[str, Range]]:
        """The graph with outliers and offsets folded, and the range of each activation that its ops read.

        What attention multiplies is measured once more after the folding, which changes v.

        Raises:
            VerdictError: the folded graph differs from the one before by more than a fp32 file may.
        """
        pixels = self.sets["calibration"].pixels
        with self.progress("lowest and highest values", len(pixels)) as step:
            ranges = channel_ranges(self.fp32, self.ops, pixels, step=step)
        weights = tuple(p for p in self.ops if not p.attention)
        attention = tuple(p for p in self.ops if p.attention)
        model = ModelProto()
        model.CopyFrom(self.model)
        if self.config.alpha is None:
            return model, _spans(self.ops, ranges)
        _, ranges = smooth(model, weights, ranges, self.config.alpha)
        few = pixels[:BATCH]
        before, after = (run_batches(open_session(d), few, BATCH) for d in (self.fp32, model.SerializeToString()))
        worst = max(float(np.abs(before[name] - after[name]).max()) for name in before)
        if not worst <= self.bundle.manifest.tolerances["fp32"]:
            raise VerdictError(
                f"folding outliers into the weights changed the fp32 graph's answers by {worst:.3g}, "
                f"{self.bundle.manifest.tolerances['fp32']:.3g} is allowed"
            )
        if attention:
            with self.progress("lowest and highest values of attention", len(pixels)) as step:
                ranges |= channel_ranges(model.SerializeToString(), attention, pixels, step=step)
        return model, _spans(self.ops, ranges)

    def choose_method(
        self, model: ModelProto, ranges: Mapping[str, Mapping[str, Range]], shifted: Mapping[str, SliceSet]
    ) -> tuple[str, dict[str, tuple[int, float]]]:
        """The method with the least error among those that pass the gate on the validation set, else the fewest flips.

        One flip more or less among a few hundred slices is chance; the error of all logits is not. It is the root mean
        square over the validation set and the shifted ones, each with the same weight.
        """
        references = {name: self.run(f"fp32: {name}", self.fp32, slices.pixels) for name, slices in shifted.items()}
        errors: dict[str, tuple[int, float]] = {}
        order: dict[str, tuple[bool, int, float, str]] = {}
        for method, method_ranges in ranges.items():
            data = quantise(model, self.ops, method_ranges)
            logits = self.run(f"trying {method}", data, self.sets["validation"].pixels)
            verdict = self.compare("int8", logits, "validation")
            squares = [verdict.rms**2]
            for name, reference in references.items():
                elsewhere = self.run(f"trying {method}: {name}", data, shifted[name].pixels)
                squares.append(gate.logit_error(reference, elsewhere) ** 2)
            errors[method] = (self.flips(verdict), float(np.sqrt(np.mean(squares))))
            failed = verdict.verdict == gate.FAILED
            order[method] = (failed, errors[method][0] if failed else 0, errors[method][1], method)
        return min(order, key=lambda method: order[method]), errors

    def keep_worst_higher(
        self, model: ModelProto, ranges: Mapping[str, Range], costs: Sequence[Cost]
    ) -> tuple[tuple[QuantizableOp, ...], tuple[str, ...]]:
        """Keep the costliest ops in higher precision, one more at a time, until the gate passes on the validation set.

        Returns:
            The ops that are quantised, and the names of those that are not.
        """
        limit = int(self.config.keep_higher_limit * len(self.ops))
        higher: list[str] = []
        while True:
            quantised = tuple(op for op in self.ops if op.name not in higher)
            verdict = self.assess("int8", quantise(model, quantised, ranges), "validation")
            if verdict.verdict != gate.FAILED or len(higher) == limit:
                return quantised, tuple(higher)
            higher.append(costs[len(higher)].name)

    def assess(self, precision: str, data: bytes, set_name: str) -> Verdict:
        """The gate's verdict on a model file over a set."""
        logits = self.run(f"comparing {precision} with fp32", data, self.sets[set_name].pixels)
        return self.compare(precision, logits, set_name)

    def compare(self, precision: str, logits: Logits, set_name: str) -> Verdict:
        """The gate's verdict on logits over a set; only the test set gets confidence intervals, which take seconds."""
        manifest = self.bundle.manifest
        return gate.compare_with_fp32(
            precision,
            self.reference(set_name),
            logits,
            self.sets[set_name].labels,
            threshold=self.bundle.thresholds.slice.value,
            location_trained=LOCATION_HEAD not in manifest.untrained_heads,
            limits=self.config.limits,
            seed=self.config.seed,
            intervals=set_name == "test",
        )

    @staticmethod
    def flips(verdict: Verdict) -> int:
        return verdict.ich.flips + (verdict.location.flips if verdict.location else 0)


def _spans(ops: Sequence[QuantizableOp], ranges: Mapping[str, ChannelRange]) -> dict[str, Range]:
    """The range over all channels of each activation that the ops read."""
    names = [name for op in ops for name in op.activations]
    return {name: Range(float(ranges[name].low.min()), float(ranges[name].high.max())) for name in names}


def _install(
    bundle: Bundle, files: Mapping[str, bytes], verdicts: Sequence[Verdict], summary: dict[str, Any]
) -> Bundle:
    """The bundle with the int8 and fp8 files that passed, without the lower precisions that failed."""
    manifest = bundle.manifest
    outcomes = {v.precision: v.verdict for v in verdicts}
    models, tolerances = dict(manifest.models), dict(manifest.tolerances)
    contents = {record.file: bundle.model_bytes(name) for name, record in models.items()}
    contents |= {record.file: bundle.file_bytes(record) for record in manifest.golden.values()}
    golden, reference = bundle.golden(), manifest.reference
    for name in LOWER:
        passed = outcomes.get(name) == gate.PASSED
        if not passed and not (name == "fp16" and outcomes.get(name) == gate.INCONCLUSIVE):
            if record := models.pop(name, None):
                del contents[record.file]
            tolerances.pop(name, None)
        elif name != "fp16":
            facts = quantised_facts(files[name], manifest.models["fp32"].facts)
            models[name] = FileRecord(MODEL_FILES[name], "", 0, facts)
            contents[MODEL_FILES[name]] = files[name]
            logits = run_batches(open_session(files[name]), golden.pixels, BATCH)
            worst = largest_deviation(logits, golden)
            if not np.isfinite(worst):
                raise VerdictError(f"{name}: a logit of the golden slices is not finite; nothing was written")
            # Backends round int8 differently: as far again from fp32, and a share of what tells slices apart.
            tolerances[name] = 2 * worst + tolerance_of("fp16", reference.rounding, reference.spread)
    new = replace(manifest, models=models, tolerances=tolerances, calibration=summary)
    return write_bundle(bundle.path, new, contents, overwrite=True)

"""Adds the int8 and fp8 files to a bundle and passes every lower precision through the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import onnx
from onnx import ModelProto

from calibration.activations import channel_ranges, histograms
from calibration.budget import Budget, Point, choose, curve, without_costliest
from calibration.files import install, model_files, require_possible
from calibration.judging import SHARES, VALIDATION, Judge
from calibration.quantise import placement, quantise
from calibration.quantizable import RECIPES, QuantizableOp, attention_ops, weight_ops
from calibration.ranges import METHODS, Range, whole_ranges
from calibration.sensitivity import Cost, by_block, rank
from calibration.smoothing import ALPHA, smooth
from dtvit_edge.backends.onnxruntime import BATCH, logits_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.precisions import BY_NAME, CALIBRATE, LOWER, OPTIONAL, TRIMMED
from dtvit_edge.progress import Progress, silent
from evaluation import gate
from evaluation.agreement import logit_error
from evaluation.gate import Verdict
from evaluation.limits import Limits
from evaluation.sampling import SETS, Pixels, SliceSet
from export.bundle_export import versions
from export.output import check_contents
from export.profile import distribution

# Validation slices under each shift by which the methods are compared: what they lose elsewhere differs by far more.
_METHOD_SLICES = 32
# Calibration slices under each shift of the scanner that give ranges as well.
_SHIFTED_CALIBRATION = 64
# Of the slices that give the ranges, one in so many is counted in histograms, which say where clipping would pay and
# take as long as all else about a slice; the ends of a range are those of all slices.
_COUNTED = 4
# Precisions that a backend may be told to compute the rest of in a hint: each is a configuration with a verdict.
HINTED = ("int8", TRIMMED["int8"])


@dataclass(frozen=True)
class Config:
    """The options of a calibration.

    Attributes:
        recipe: which ops are quantised, one of `quantizable.RECIPES`.
        alpha: exponent of outlier smoothing; None leaves the graph as it is.
        calibration_slices, validation_slices, test_slices: the largest number of slices in each set.
        sensitivity_slices: how many slices of the validation set rank the ops.
        keep_higher_limit: largest share of the ops that may be kept in higher precision, 0 to 1.
        budget: says how many are kept; None keeps as many as the gate needs on the validation set.
        only: of `LOWER`, the precisions that are made and judged.
        limits: what the gate asks for; seed: of the sampling and of the bootstrap.
    """

    recipe: str = RECIPES[0]
    alpha: float | None = ALPHA
    calibration_slices: int = 512
    validation_slices: int = 256
    test_slices: int = 2000
    sensitivity_slices: int = 16
    keep_higher_limit: float = 0.5
    budget: Budget | None = None
    only: tuple[str, ...] = LOWER
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe is {self.recipe!r}, expected one of {', '.join(RECIPES)}")
        if unknown := set(self.only) - set(LOWER):
            raise ConfigError(
                f"no lower precision is called {', '.join(sorted(unknown))}; there are {', '.join(LOWER)}"
            )

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
        curve: error against time over the number of ops that are kept.
        verdicts: of the files; configurations: of a file with a backend's hint, as far as this machine has any.
        sizes: share of the fp32 file's bytes, by precision.
        slices: how many each set held.
    """

    bundle: Bundle
    method: str
    methods: dict[str, tuple[int, float]]
    costs: tuple[Cost, ...]
    kept_higher: tuple[str, ...]
    curve: tuple[Point, ...]
    verdicts: tuple[Verdict, ...]
    configurations: tuple[Verdict, ...]
    sizes: dict[str, float]
    slices: dict[str, int]

    @property
    def passed(self) -> bool:
        """True where every lower precision passed the gate, but the `OPTIONAL`; one that was not gated did not."""
        return all(v.verdict == gate.PASSED for v in self.verdicts if v.precision not in OPTIONAL)

    @property
    def refused(self) -> tuple[str, ...]:
        """The precisions that failed or are inconclusive, but those that are `OPTIONAL`."""
        negative = (v.precision for v in self.verdicts if v.verdict in (gate.FAILED, gate.INCONCLUSIVE))
        return tuple(precision for precision in negative if precision not in OPTIONAL)


def calibrate(
    bundle: Bundle,
    sets: Mapping[str, SliceSet],
    config: Config,
    *,
    progress: Progress = silent,
) -> CalibrationResult:
    """Add int8 and fp8, gate every lower precision, and install what passes; all of it or nothing is written.

    Args:
        sets: the slices of `calibration`, `validation` and `test` (`sampling.load_sets`), and of `OTHER`, another site,
            where there are any.

    Raises:
        BundleError: a thin copy; every file is written anew.
        ConfigError: the bundle's folder holds somebody else's files, which would be lost; a precision that is named
            by itself and that this bundle cannot have.
        VerdictError: a range that is not finite, or a graph that does not check.
    """
    bundle.require_whole()
    check_contents(bundle.path)
    require_possible(bundle, config.only)
    calibrator = _Calibrator(bundle, sets, config, progress)
    smoothed, spans = calibrator.smoothed()
    some = calibrator.range_pixels[::_COUNTED]
    with progress("histograms", len(some)) as step:
        largest = {name: span.largest for name, span in spans.items()}
        counted = histograms(smoothed.SerializeToString(), largest, some, step=step)
    ranges: dict[str, dict[str, Range]] = {}
    with progress("ranges", len(METHODS)) as step:
        for method, threshold in METHODS.items():
            ranges[method] = {name: spans[name].to(threshold(histogram)) for name, histogram in counted.items()}
            step(1)
    method, methods = calibrator.choose_method(smoothed, ranges)
    few = sets[VALIDATION].pixels[: config.sensitivity_slices]
    reference = {name: values[: len(few)] for name, values in calibrator.reference(VALIDATION).items()}
    costs = rank(smoothed, calibrator.ops, ranges[method], few, reference, progress=progress)
    points = curve(
        lambda ops: quantise(smoothed, ops, ranges[method]), calibrator.fp32, calibrator.ops, costs, few, reference,
        most=calibrator.most_kept, progress=progress,
    )  # fmt: skip
    if config.budget is None:
        quantised, kept_higher = calibrator.keep_worst_higher(smoothed, ranges[method], costs)
    else:
        kept = choose(points, config.budget).kept
        quantised = without_costliest(calibrator.ops, costs, kept)
        kept_higher = tuple(cost.name for cost in costs[:kept])
    files = model_files(bundle, smoothed, quantised, ranges[method], spans, calibrator.ops, config.only)
    verdicts = tuple(calibrator.assess(name, data) for name, data in files.items())
    hinted = [name for name in HINTED if name in files]
    configurations = tuple(verdict for name in hinted for verdict in calibrator.assess_hinted(name, files[name]))
    summary = {
        "method": method,
        "methods": {name: {"flips": flips, "rms": rms} for name, (flips, rms) in methods.items()},
        "ranges": {name: [span.low, span.high] for name, span in ranges[method].items()},
        "kept_higher": list(kept_higher),
        # Times differ from run to run, and the same calibration gives the same bundle.
        "curve": [{"kept": point.kept, "rms": point.rms} for point in points],
        "ops": {name: placement(data) for name, data in files.items() if BY_NAME[name].made_by == CALIBRATE},
        "sensitivity": {"ops": [asdict(c) for c in costs], "blocks": [asdict(c) for c in by_block(costs)]},
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "configurations": {verdict.precision: verdict.to_dict() for verdict in configurations},
        "slices": {name: list(slices.labels.digests) for name, slices in sets.items()},
        "config": asdict(config),
        "versions": versions(),
    }
    known = distribution(calibrator.reference("calibration"), sets["calibration"].brain_shares)
    profile = (bundle.manifest.profile or {}) | {"calibration": known}
    installed = install(bundle, files, verdicts, summary, profile)
    sizes = {name: len(data) / len(calibrator.fp32) for name, data in files.items()}
    counts = {name: len(slices) for name, slices in sets.items()}
    return CalibrationResult(
        installed, method, methods, costs, kept_higher, points, verdicts, configurations, sizes, counts
    )


class _Calibrator(Judge):
    """The steps of a calibration over one fp32 graph; its quantizable ops and its logits are computed once."""

    def __init__(self, bundle: Bundle, sets: Mapping[str, SliceSet], config: Config, progress: Progress) -> None:
        super().__init__(bundle, sets, config.limits, config.seed, progress)
        self.config = config
        self.model: ModelProto = onnx.load_model_from_string(self.fp32)
        self.ops = weight_ops(self.model)
        if config.recipe == "attention":
            self.ops += attention_ops(self.model)
        self.channels = bundle.manifest.spec.channels

    @cached_property
    def range_pixels(self) -> Pixels:
        """What gives the ranges: the calibration set, and some of it under each shift of the scanner.

        Ranges of one scanner's slices alone clip what another one shows.
        """
        shifted = self.shifted("calibration", _SHIFTED_CALIBRATION).values()
        return np.concatenate([self.sets["calibration"].pixels, *(slices.pixels for slices in shifted)])

    @property
    def most_kept(self) -> int:
        """How many ops may be kept in higher precision."""
        return int(self.config.keep_higher_limit * len(self.ops))

    def smoothed(self) -> tuple[ModelProto, dict[str, Range]]:
        """The graph with outliers and offsets folded, and the range of each activation that its ops read.

        What attention multiplies is measured once more after the folding, which changes v.

        Raises:
            VerdictError: the folded graph differs from the one before by more than a fp32 file may.
        """
        pixels = self.range_pixels
        with self.progress("lowest and highest values", len(pixels)) as step:
            ranges = channel_ranges(self.fp32, self.ops, pixels, step=step)
        weights = tuple(p for p in self.ops if not p.attention)
        attention = tuple(p for p in self.ops if p.attention)
        model = ModelProto()
        model.CopyFrom(self.model)
        if self.config.alpha is None:
            return model, whole_ranges(self.ops, ranges)
        ranges = smooth(model, weights, ranges, self.config.alpha)
        few = pixels[:BATCH]
        before, after = (logits_of(d, "fp32", few) for d in (self.fp32, model.SerializeToString()))
        worst = max(float(np.abs(before[name] - after[name]).max()) for name in before)
        if not worst <= self.bundle.manifest.tolerances["fp32"]:
            raise VerdictError(
                f"folding outliers into the weights changed the fp32 graph's answers by {worst:.3g}, "
                f"{self.bundle.manifest.tolerances['fp32']:.3g} is allowed"
            )
        if attention:
            with self.progress("lowest and highest values of attention", len(pixels)) as step:
                ranges |= channel_ranges(model.SerializeToString(), attention, pixels, step=step)
        return model, whole_ranges(self.ops, ranges)

    def choose_method(
        self, model: ModelProto, ranges: Mapping[str, Mapping[str, Range]]
    ) -> tuple[str, dict[str, tuple[int, float]]]:
        """The method with the least error among those that pass the gate on the validation set, else the fewest flips.

        One flip more or less among a few hundred slices is chance; the error of all logits is not. It is the root mean
        square over the validation set and the shifted ones, each with the same weight.
        """
        few = {name: slices.pixels[:_METHOD_SLICES] for name, slices in self.validation_elsewhere.items()}
        errors: dict[str, tuple[int, float]] = {}
        order: dict[str, tuple[bool, int, float, str]] = {}
        for method, method_ranges in ranges.items():
            data = quantise(model, self.ops, method_ranges)
            logits = self.run("int8", data, self.sets[VALIDATION].pixels, f"trying {method}")
            verdict = self.compare("int8", logits, VALIDATION)
            squares = [verdict.rms**2]
            for name, pixels in few.items():
                elsewhere = self.run("int8", data, pixels, f"trying {method}: {name}")
                known = {head: values[: len(pixels)] for head, values in self.reference(name).items()}
                squares.append(logit_error(known, elsewhere) ** 2)
            errors[method] = (self.flips(verdict), float(np.sqrt(np.mean(squares))))
            failed = verdict.verdict == gate.FAILED
            order[method] = (failed, errors[method][0] if failed else 0, errors[method][1], method)
        return min(order, key=lambda method: order[method]), errors

    def keep_worst_higher(
        self, model: ModelProto, ranges: Mapping[str, Range], costs: Sequence[Cost]
    ) -> tuple[tuple[QuantizableOp, ...], tuple[str, ...]]:
        """Keep the costliest ops in higher precision, as few as let the gate pass on the validation set.

        It has to pass there under shifts of the scanner as well, with room to spare where any number gives it
        (`SHARES`). From the fifth op on a quarter more are tried at once.

        Returns:
            The ops that are quantised, and the names of those that are not.
        """
        files = {kept: without_costliest(self.ops, costs, kept) for kept in _numbers(self.most_kept)}
        passing = (
            kept
            for share in SHARES
            for kept, quantised in files.items()
            if self.passes("int8", quantise(model, quantised, ranges), share)
        )
        kept = next(passing, self.most_kept)
        return files[kept], tuple(cost.name for cost in costs[:kept])

    @staticmethod
    def flips(verdict: Verdict) -> int:
        return verdict.ich.flips + (verdict.location.flips if verdict.location else 0)


def _numbers(most: int) -> Iterator[int]:
    """How many ops are tried to be kept: 0 to 4, then a quarter more each time, and `most`."""
    kept = 0
    while kept < most:
        yield kept
        kept += 1 + kept // 4
    yield most

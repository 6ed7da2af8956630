"""From a bundle to its int8 files, and to a verdict on every lower precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.activations import channel_maxima, histograms
from calibration.quantise import checked, placement, quantise, typed
from calibration.quantizable import RECIPES, QuantizableOp, attention_ops, weight_ops
from calibration.ranges import METHODS
from calibration.sensitivity import Cost, by_block, rank
from calibration.smoothing import ALPHA, smooth
from dtvit_edge.bundle import GOLDEN_LOGITS, MODEL_FILES, Bundle, FileRecord, write_bundle
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import LOCATION_HEAD, OUTPUT_NAMES
from evaluation import gate
from evaluation.gate import Limits, Logits, Verdict
from evaluation.sampling import Guess, Pixels, SliceSet
from export.bundle_export import versions
from export.facts import quantised_facts
from export.onnx_graph import open_session
from export.parity import run_batches, tolerance_of

BATCH = 8
LOWER = ("fp16", "int8", "int8-fp16")


@dataclass(frozen=True)
class Config:
    """What a calibration is made of.

    Attributes:
        recipe: which ops are quantised, one of `quantizable.RECIPES`.
        alpha: of smoothing; None leaves the graph as it is.
        ranges, choice, verdict: slices of each set, at most.
        sensitivity: slices that rank the ops.
        give_back: largest share of the ops that may return to higher precision.
    """

    recipe: str = RECIPES[0]
    alpha: float | None = ALPHA
    ranges: int = 512
    choice: int = 256
    verdict: int = 2000
    sensitivity: int = 16
    give_back: float = 0.5
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ConfigError(f"recipe is {self.recipe!r}, expected one of {', '.join(RECIPES)}")


@dataclass(frozen=True)
class Outcome:
    """What a calibration found; `bundle` is the one it left behind, with whatever passed.

    Attributes:
        methods: by name, (flips on both heads, rms logit error) on the choice set.
        given_back: ops that returned to higher precision.
        sizes: share of the fp32 file's bytes, by precision.
        slices: how many each set held.
    """

    bundle: Bundle
    method: str
    methods: dict[str, tuple[int, float]]
    costs: tuple[Cost, ...]
    given_back: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    sizes: dict[str, float]
    slices: dict[str, int]

    @property
    def passed(self) -> bool:
        """True where every lower precision holds."""
        return all(v.verdict == gate.PASSED for v in self.verdicts)


def calibrate(bundle: Bundle, sets: Mapping[str, SliceSet], config: Config, *, progress: Progress = silent) -> Outcome:
    """Add int8 to a bundle, judge every lower precision, and install what passes; all of it or nothing is written.

    Args:
        sets: `ranges`, `choice` and `verdict` (`slices.load`).

    Raises:
        BundleError: a thin copy; every file is written anew.
        VerdictError: a range that is not finite, or a graph that does not check.
    """
    bundle.require_whole()
    work = _Work(bundle, sets, config, progress)
    smoothed, maxima = work.smoothed()
    with progress("histograms", len(sets["ranges"])) as step:
        largest = {name: float(values.max()) for name, values in maxima.items()}
        found = histograms(smoothed.SerializeToString(), largest, sets["ranges"].pixels, step=step)
    ranges: dict[str, dict[str, float]] = {}
    with progress("ranges", len(METHODS)) as step:
        for method, threshold in METHODS.items():
            ranges[method] = {name: threshold(histogram) for name, histogram in found.items()}
            step(1)
    method, methods = work.choose(smoothed, ranges)
    few = sets["choice"].pixels[: config.sensitivity]
    reference = {name: values[: len(few)] for name, values in work.reference("choice").items()}
    costs = rank(smoothed, work.ops, ranges[method], few, reference, progress=progress)
    kept, given_back = work.give_back(smoothed, ranges[method], costs)
    files = {"int8": checked(quantise(smoothed, kept, ranges[method]), work.channels)}
    files["int8-fp16"] = typed(files["int8"], work.channels)
    if "fp16" in bundle.manifest.models:
        files["fp16"] = bundle.model_bytes("fp16")
    verdicts = tuple(work.judge(name, files[name], "verdict") for name in LOWER if name in files)
    summary = {
        "method": method,
        "methods": {name: {"flips": flips, "rms": rms} for name, (flips, rms) in methods.items()},
        "ranges": ranges[method],
        "given_back": list(given_back),
        "ops": {name: placement(files[name]) for name in ("int8", "int8-fp16")},
        "sensitivity": {"ops": [asdict(c) for c in costs], "blocks": [asdict(c) for c in by_block(costs)]},
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "slices": {name: list(own.cases.digests) for name, own in sets.items()},
        "config": asdict(config),
        "versions": versions(),
    }
    installed = _install(bundle, files, verdicts, summary)
    sizes = {name: len(data) / len(work.fp32) for name, data in files.items()}
    held = {name: len(own) for name, own in sets.items()}
    return Outcome(installed, method, methods, costs, given_back, verdicts, sizes, held)


def flags(bundle: Bundle, progress: Progress = silent) -> Guess:
    """What fp32 flags at the shipped threshold, as a function of (N, C, 224, 224) uint8 to (N,) bool."""

    def guess(pixels: Pixels) -> NDArray[np.bool_]:
        with progress("looking for haemorrhage", len(pixels)) as step:
            logits = run_batches(open_session(bundle.model_bytes("fp32")), pixels, BATCH, step)
        found: NDArray[np.bool_] = gate.softmax(logits[OUTPUT_NAMES[0]])[:, 1] >= bundle.manifest.ich_threshold
        return found

    return guess


class _Work:
    """The fp32 graph, its quantizable ops and its logits on each set, computed once."""

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
        """fp32's logits of a set."""
        if name not in self._reference:
            self._reference[name] = self.run("fp32", self.fp32, self.sets[name].pixels)
        return self._reference[name]

    def run(self, name: str, data: bytes, pixels: Pixels) -> Logits:
        """Logits of a file on ONNX Runtime."""
        with self.progress(name, len(pixels)) as step:
            return run_batches(open_session(data), pixels, BATCH, step)

    def smoothed(self) -> tuple[ModelProto, dict[str, Any]]:
        """The graph with its outliers folded, and its activations' largest values by channel.

        What attention multiplies is looked up once more after the folding, which changes v.

        Raises:
            VerdictError: the folded graph gives other bits than the one before.
        """
        pixels = self.sets["ranges"].pixels
        with self.progress("largest values", len(pixels)) as step:
            maxima = channel_maxima(self.fp32, self.ops, pixels, step=step)
        weights = [p for p in self.ops if not p.attention]
        attention = [p for p in self.ops if p.attention]
        model = ModelProto()
        model.CopyFrom(self.model)
        if self.config.alpha is None:
            return model, maxima
        _, maxima = smooth(model, weights, maxima, self.config.alpha)
        few = pixels[:BATCH]
        before, after = (run_batches(open_session(d), few, BATCH) for d in (self.fp32, model.SerializeToString()))
        if any(not np.array_equal(before[name], after[name]) for name in before):
            raise VerdictError("folding outliers into the weights changed the fp32 graph's answers")
        if attention:
            with self.progress("largest values of attention", len(pixels)) as step:
                maxima |= channel_maxima(model.SerializeToString(), attention, pixels, step=step)
        return model, maxima

    def choose(
        self, model: ModelProto, ranges: Mapping[str, Mapping[str, float]]
    ) -> tuple[str, dict[str, tuple[int, float]]]:
        """Of the methods that pass the gate on the choice set the one with the least error, else with the fewest flips.

        One flip more or less among a few hundred slices is chance; the error of all logits is not.
        """
        found: dict[str, tuple[int, float]] = {}
        order: dict[str, tuple[bool, int, float, str]] = {}
        for method, own in ranges.items():
            data = quantise(model, self.ops, own)
            logits = self.run(f"trying {method}", data, self.sets["choice"].pixels)
            verdict = self.verdict("int8", logits, "choice")
            found[method] = (self.flips(verdict), verdict.rms)
            failed = verdict.verdict == gate.FAILED
            order[method] = (failed, found[method][0] if failed else 0, verdict.rms, method)
        return min(order, key=lambda method: order[method]), found

    def give_back(
        self, model: ModelProto, ranges: Mapping[str, float], costs: Sequence[Cost]
    ) -> tuple[tuple[QuantizableOp, ...], tuple[str, ...]]:
        """Return the worst ops to higher precision, one by one, until the choice set holds."""
        allowed = int(self.config.give_back * len(self.ops))
        given: list[str] = []
        while True:
            kept = tuple(p for p in self.ops if p.name not in given)
            verdict = self.judge("int8", quantise(model, kept, ranges), "choice")
            if verdict.verdict != gate.FAILED or len(given) == allowed:
                return kept, tuple(given)
            given.append(costs[len(given)].name)

    def judge(self, precision: str, data: bytes, name: str) -> Verdict:
        """The gate's verdict on a file over a set."""
        return self.verdict(precision, self.run(f"judging {precision}", data, self.sets[name].pixels), name)

    def verdict(self, precision: str, logits: Logits, name: str) -> Verdict:
        manifest = self.bundle.manifest
        return gate.judge(
            precision,
            self.reference(name),
            logits,
            self.sets[name].cases,
            threshold=manifest.ich_threshold,
            location_trained=LOCATION_HEAD not in manifest.untrained_heads,
            limits=self.config.limits,
            seed=self.config.seed,
            intervals=name == "verdict",
        )

    @staticmethod
    def flips(verdict: Verdict) -> int:
        return verdict.ich.flips + (verdict.location.flips if verdict.location else 0)


def _install(
    bundle: Bundle, files: Mapping[str, bytes], verdicts: Sequence[Verdict], summary: dict[str, Any]
) -> Bundle:
    """The bundle with the int8 files that passed, without the lower precisions that failed."""
    manifest = bundle.manifest
    said = {v.precision: v.verdict for v in verdicts}
    models, tolerances = dict(manifest.models), dict(manifest.tolerances)
    contents = {record.file: bundle.model_bytes(name) for name, record in models.items()}
    contents |= {record.file: (bundle.path / record.file).read_bytes() for record in manifest.golden.values()}
    pixels, golden = bundle.golden()
    for name in LOWER:
        keep = said.get(name) == gate.PASSED or (name == "fp16" and said.get(name) == gate.INCONCLUSIVE)
        if not keep:
            if record := models.pop(name, None):
                del contents[record.file]
            tolerances.pop(name, None)
        elif name != "fp16":
            facts = quantised_facts(files[name], manifest.models["fp32"].facts)
            models[name] = FileRecord(MODEL_FILES[name], "", 0, facts)
            contents[MODEL_FILES[name]] = files[name]
            found = run_batches(open_session(files[name]), pixels, BATCH)
            worst = max(float(np.abs(found[output] - golden[output]).max()) for output in GOLDEN_LOGITS)
            # Backends round int8 differently: as far again from fp32, and a share of what tells slices apart.
            tolerances[name] = 2 * worst + tolerance_of("fp16", golden)
    new = replace(manifest, models=models, tolerances=tolerances, calibration=summary)
    return write_bundle(bundle.path, new, contents, overwrite=True)

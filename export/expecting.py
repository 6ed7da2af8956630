"""`--expect`: the model against the user's own outputs, and the change that would make them agree where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dtvit_edge.bundle.tolerances import FP32_FLOOR, ROUNDING_FACTOR
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PreprocessSpec
from export.expect_changes import (
    TRIED_ACTIVATIONS,
    TRIED_POOLS,
    LabelChange,
    OutputChange,
    Pair,
    SpecChange,
    label_changes,
    ours,
    output_changes,
    spec_changes,
)
from export.expectations import Expectations, read_expectations
from export.heads.layers import Activation, make_activation
from export.heads.outputs import FourClasses
from export.importing import Imported
from export.model import DTViT, normalise
from export.parity import TOLD_APART

# Of what tells the user's images apart: preprocessing in floats differs from bytes by less (a byte is 1/255 of the
# window), a wrong window, mask or size by more.
PREPROCESSING_SHARE = 0.05
# A change explains a difference if it leaves at most this share of it.
EXPLAINED = 0.25
SEARCH_IMAGES = 8
SHOWN = 12


@dataclass(frozen=True)
class Attempt:
    """What was tried: the names of the changes, and the largest difference that was left."""

    changes: tuple[str, ...]
    difference: float


def prove_expected(imported: Imported, path: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Compare a model with the user's own outputs.

    Returns:
        For the manifest's `proof`.

    Raises:
        ConfigError: the file does not hold what is needed.
        VerdictError: they differ; the message names the change that would make them agree, if one was found.
    """
    expected = read_expectations(path)
    comparison = _Comparison(imported, expected)
    rounding = comparison.rounding()
    exact = max(ROUNDING_FACTOR * rounding, FP32_FLOOR)
    comparison.check_spread(exact)
    difference = comparison.difference(comparison.logits(imported.spec, len(expected)), len(expected))
    tolerance, kind = exact, "rounding"
    if not difference <= exact:
        tolerance, kind = max(exact, PREPROCESSING_SHARE * comparison.spread()), "preprocessing"
        attempts = comparison.search(exact)
        best = attempts[0]
        alone = expected.tensors is not None or difference > tolerance
        explained = best.changes and best.difference <= max(exact, EXPLAINED * difference)
        if alone or explained:
            allowed = exact if expected.tensors is not None else tolerance
            raise VerdictError(_refusal(path, difference, allowed, attempts, bool(explained)))
    progress(
        f"  proved against the user's own outputs: {len(expected)} images ({expected.kind}), at most {difference:.3g} "
        f"apart, allowed {tolerance:.3g}"
    )
    return {
        "says": "proved against the user's own outputs",
        "images": len(expected),
        "kind": expected.kind,
        "preprocessing_proved": expected.tensors is None,
        "outputs": [target.name for target in expected.targets],
        "max_abs_difference": difference,
        "tolerance": tolerance,
        "tolerance_of": kind,
        "sha256": expected.sha256,
    }


class _Comparison:
    """One model, one set of images; features and bytes are computed once for each preprocessing."""

    def __init__(self, imported: Imported, expected: Expectations) -> None:
        self.imported, self.expected = imported, expected
        self.model, self.spec = imported.model, imported.spec
        self._bytes: dict[PreprocessSpec, NDArray[np.uint8]] = {}
        tensors = expected.tensors
        wanted = (self.spec.encoder_channels, self.spec.crop, self.spec.crop)
        if tensors is not None and tensors.shape[1:] != wanted:
            raise ConfigError(f"tensors are {tensors.shape[1:]} each, the model takes {wanted}")

    def inputs(self, spec: PreprocessSpec, count: int, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """The model's normalised inputs, a few at a time."""
        tensors = self.expected.tensors
        images = self._prepared(spec, count) if tensors is None else tensors[:count]
        for start in range(0, count, SEARCH_IMAGES):
            part = torch.from_numpy(images[start : start + SEARCH_IMAGES])
            yield normalise(part, spec, dtype) if tensors is None else part.to(dtype)

    def _prepared(self, spec: PreprocessSpec, count: int) -> NDArray[np.uint8]:
        # Mean and std change no byte.
        key = PreprocessSpec(**(vars(spec) | {"mean": self.spec.mean, "std": self.spec.std}))
        if len(self._bytes.get(key, ())) < count:
            preprocess = CpuPreprocessor(key)
            rows = [preprocess(stored, encoding).pixels for stored, encoding in self.expected.slices[:count]]
            self._bytes[key] = np.stack(rows)
        return self._bytes[key][:count]

    def features(self, spec: PreprocessSpec, count: int) -> Tensor:
        """(count, F) float32."""
        with torch.no_grad():
            return torch.cat([self.model.encoder(x) for x in self.inputs(spec, count)])

    def heads(self, features: Tensor) -> Pair:
        """Both heads' logits in float64 arrays."""
        with torch.no_grad():
            ich, location = self.model.ich_head(features), self.model.location_head(features)
        return ich.double().numpy(), location.double().numpy()

    def logits(self, spec: PreprocessSpec, count: int) -> Pair:
        """Of the model as it is."""
        return self.heads(self.features(spec, count))

    def rounding(self) -> float:
        """The largest |logit difference| of PyTorch's float32 to its float64 on a few of the images.

        Raises:
            VerdictError: a logit is not finite.
        """
        count = min(SEARCH_IMAGES, len(self.expected))
        single = self.logits(self.spec, count)
        model: DTViT = self.model.to(torch.float64)
        try:
            with torch.no_grad():
                pairs = [model(x) for x in self.inputs(self.spec, count, torch.float64)]
        finally:
            model.to(torch.float32)
        # np.max, since max would lose a NaN that is not the first.
        worst = float(np.max([np.abs(np.concatenate([p[i].numpy() for p in pairs]) - single[i]).max() for i in (0, 1)]))
        if not np.isfinite(worst):
            raise VerdictError("the model gives logits that are not finite for the images with expected outputs")
        return worst

    def check_spread(self, exact: float) -> None:
        """Refuse outputs that would prove nothing, since they hardly vary."""
        if len(self.expected) > 1 and not self.spread() > TOLD_APART * exact:
            raise ConfigError(
                f"the expected outputs hardly vary between the images (standard deviation {self.spread():.2g}), so "
                "that they would prove nothing; take images that differ, with and without a haemorrhage"
            )

    def spread(self) -> float:
        """The least, over the sets of outputs, of the largest standard deviation of a column between images."""
        return min(float(target.values.std(axis=0).max()) for target in self.expected.targets)

    def difference(self, pair: Pair, count: int, output: OutputChange | None = None) -> float:
        """The largest difference to the user's numbers; infinite where one is not finite."""
        with np.errstate(all="ignore"):
            values = [
                np.abs((output.changed(pair, target) if output else ours(pair, target)) - target.values[:count]).max()
                for target in self.expected.targets
            ]
        largest = float(np.max(values))  # as in `rounding`
        return largest if np.isfinite(largest) else float("inf")

    def search(self, exact: float) -> list[Attempt]:
        """Single changes, and pairs where no single one is exact; the best first, fewer changes before more."""
        count = min(SEARCH_IMAGES, len(self.expected))
        specs = [] if self.expected.tensors is not None else spec_changes(self.spec)
        base = self.features(self.spec, count)
        attempts = [*self._of_heads((), base, count, most=1)]
        kept: dict[str, Tensor] = {}
        for change in specs:
            try:
                kept[change.name] = self.features(change.changed(self.spec), count)
            except ConfigError:  # an image that is smaller than a literal crop
                continue
            attempts.append(Attempt((change.name,), self.difference(self.heads(kept[change.name]), count)))
        for name, features in self._with_pools(count):
            kept[name] = features
            attempts.append(Attempt((name,), self.difference(self.heads(features), count)))
        if min(attempt.difference for attempt in attempts) > exact:
            attempts += self._of_heads((), base, count, most=2, least=2)
            for name, features in kept.items():
                attempts += self._of_heads((name,), features, count, most=1, least=1)
        if min(attempt.difference for attempt in attempts) > exact:
            attempts += self._pairs_of_specs(specs, count, exact)
        return _ranked(attempts, exact)

    def _pairs_of_specs(self, specs: list[SpecChange], count: int, exact: float) -> Iterator[Attempt]:
        for first, second in combinations(specs, 2):
            if first.group == second.group:
                continue
            try:
                logits = self.logits(second.changed(first.changed(self.spec)), count)
            except ConfigError:
                continue
            attempt = Attempt((first.name, second.name), self.difference(logits, count))
            yield attempt
            if attempt.difference <= exact:
                return

    def _of_heads(
        self, names: tuple[str, ...], features: Tensor, count: int, *, most: int, least: int = 0
    ) -> Iterator[Attempt]:
        """Every change of activation, labels and outputs, `least` to `most` of them at once."""
        labels: list[LabelChange | None] = [None, *label_changes(self._has_four_classes())]
        outputs: list[OutputChange | None] = [None, *output_changes()]
        for activation, pair in self._with_activations(features):
            for label in labels:
                changed = label.changed(pair) if label else pair
                for output in outputs:
                    parts = [activation, label and label.name, output and output.name]
                    done = tuple(part for part in parts if part)
                    if least <= len(done) <= most:
                        yield Attempt((*names, *done), self.difference(changed, count, output))

    def _with_activations(self, features: Tensor) -> Iterator[tuple[str, Pair]]:
        """The logits as they are, then with every other activation between the heads' layers."""
        yield "", self.heads(features)
        places = [] if self.imported.own_module else list(_activations(self.model))
        current = {_name(parent[index]) for parent, index in places}
        for name in TRIED_ACTIVATIONS if places else ():
            if current == {name}:
                continue
            before = [parent[index] for parent, index in places]
            for parent, index in places:
                parent[index] = make_activation(name)
            try:
                yield f"activation {name}", self.heads(features)
            finally:
                for (parent, index), module in zip(places, before, strict=True):
                    parent[index] = module

    def _with_pools(self, count: int) -> Iterator[tuple[str, Tensor]]:
        """The features of a ViT that pools in another way, which no tensor would show."""
        encoder: Any = self.model.encoder
        current = getattr(encoder, "global_pool", None)
        if self.imported.own_module or current not in TRIED_POOLS or not hasattr(encoder, "num_prefix_tokens"):
            return
        for pool in TRIED_POOLS:
            if pool != current:
                encoder.global_pool = pool
                try:
                    yield f"pool {pool}", self.features(self.spec, count)
                finally:
                    encoder.global_pool = current

    def _has_four_classes(self) -> bool:
        return any(isinstance(module, FourClasses) for module in self.model.ich_head.modules())


def _activations(model: DTViT) -> Iterator[tuple[nn.Sequential, int]]:
    """Where in the heads an activation stands that a library does not dictate."""
    for head in (model.ich_head, model.location_head):
        for index, module in enumerate(head):
            if isinstance(module, nn.GELU) or (isinstance(module, Activation) and not module.known):
                yield head, index


def _name(module: nn.Module) -> str:
    return module.name if isinstance(module, Activation) else "gelu"


def _ranked(attempts: list[Attempt], exact: float) -> list[Attempt]:
    """The best first. A pair has to explain much more than a single change to stand before it."""
    by_difference = sorted(attempts, key=lambda attempt: (max(attempt.difference, exact), len(attempt.changes)))
    best = by_difference[0]
    if len(best.changes) > 1:
        singles = [a for a in by_difference if len(a.changes) == 1]
        if singles and EXPLAINED * singles[0].difference <= best.difference:
            best = singles[0]
    return [best, *(attempt for attempt in by_difference if attempt is not best)]


def _refusal(path: Path, difference: float, tolerance: float, attempts: list[Attempt], explained: bool) -> str:
    """What is wrong, if that was found, and the table of what was tried."""
    lines = [f"{path}: the model's outputs are {difference:.3g} from the user's own, allowed {tolerance:.3g}"]
    best, changes = attempts[0], " and ".join(attempts[0].changes)
    if explained and best.difference <= tolerance:
        lines.append(f"They would agree to {best.difference:.3g} with: {changes}. Say so in import.toml")
    elif explained:
        lines.append(
            f"Most of it goes with: {changes}; {best.difference:.3g} would stay, for which no change is known. Or give "
            "the module itself, --model FILE.py:FACTORY"
        )
    else:
        lines.append(
            "No single change that is known explains it, nor a pair; --model FILE.py:FACTORY exports your own code"
        )
    rows = [(" + ".join(attempt.changes) or "as it is", f"{attempt.difference:.3g}") for attempt in attempts[:SHOWN]]
    width = max(len(name) for name, _ in rows)
    lines.append(f"Tried ({len(attempts)} in all), by the largest difference:")
    lines += [f"  {name:<{width}}  {value}" for name, value in rows]
    return "\n".join(lines)

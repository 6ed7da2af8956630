"""What may be wrong in an import, one change each: of the preprocessing, the activation, the labels, the outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import softmax
from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import FILTERS, FITS, ICH_LABELS, LOCATION_LABELS, PreprocessSpec, WindowKind
from export.expectations import Target
from export.heads.outputs import FOUR

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

# Poolings of a ViT that have no weights of their own.
TRIED_POOLS = ("token", "avg")
# Activations that a search tries; `none` is a head without one.
TRIED_ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "tanh", "silu", "leaky_relu", "none")
_NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mean and std of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std 0.5": ((0.5,) * 3, (0.5,) * 3),
    "no mean and std (bytes / 255 alone)": ((0.0,) * 3, (1.0,) * 3),
    "no mean and std, nor division by 255": ((0.0,) * 3, (1 / 255,) * 3),
}


@dataclass(frozen=True)
class SpecChange:
    """Another preprocessing. Two changes of one `group` exclude each other."""

    name: str
    group: str
    changed: Callable[[PreprocessSpec], PreprocessSpec]


@dataclass(frozen=True)
class LabelChange:
    """Other labels: what is done to the logits of both heads, (N, 2) and (N, 3)."""

    name: str
    changed: Callable[[Pair], Pair]


@dataclass(frozen=True)
class OutputChange:
    """What was given is something else than it is said to be."""

    name: str
    changed: Callable[[Pair, Target], Array]


def _normalised(spec: PreprocessSpec, mean: tuple[float, ...], std: tuple[float, ...]) -> PreprocessSpec:
    channels = len(spec.mean)
    return replace(spec, mean=mean[:channels], std=std[:channels])


def spec_changes(spec: PreprocessSpec) -> list[SpecChange]:
    """The changes of preprocessing that are one for this spec."""
    changes = [
        SpecChange(name, "normalisation", partial(_normalised, mean=mean, std=std))
        for name, (mean, std) in _NORMALISATIONS.items()
    ]
    changes.append(
        SpecChange(
            f"mask {'off' if spec.device_mask else 'on'}",
            "mask",
            lambda s: replace(s, device_mask=not spec.device_mask),
        )
    )
    other_filter = FILTERS[1 - FILTERS.index(spec.filter)]
    changes.append(SpecChange(f"filter {other_filter}", "filter", lambda s: replace(s, filter=other_filter)))
    if spec.fit == FITS[0]:
        changes.append(SpecChange("fit squash", "fit", lambda s: replace(s, fit=FITS[1], resize=s.crop)))
    else:
        margin = round(spec.crop * 256 / 224)
        changes.append(SpecChange("fit shorter", "fit", lambda s: replace(s, fit=FITS[0], resize=margin)))
    changes.append(SpecChange("no resize (literal crop)", "fit", lambda s: replace(s, fit=FITS[0], resize=None)))
    changes.append(SpecChange("resize straight to the crop", "fit", lambda s: replace(s, resize=s.crop)))
    changes.append(
        SpecChange(
            "resize with torchvision's margin (256 for 224)",
            "fit",
            lambda s: replace(s, resize=round(s.crop * 256 / 224)),
        )
    )
    kinds = {WindowKind.LINEAR: WindowKind.LINEAR_EXACT, WindowKind.LINEAR_EXACT: WindowKind.LINEAR}
    other_kind = kinds[spec.windows[0].kind]
    changes.append(
        SpecChange(
            f"window kind {other_kind}",
            "window",
            lambda s: replace(s, windows=tuple(replace(w, kind=kinds[w.kind]) for w in s.windows)),
        )
    )
    return [change for change in changes if _is_change(change, spec)]


def _is_change(change: SpecChange, spec: PreprocessSpec) -> bool:
    try:
        return change.changed(spec) != spec
    except ConfigError:
        return False


def label_changes(four_classes: bool) -> Iterator[LabelChange]:
    """Every other order of the labels of one head."""
    if four_classes:
        for order in itertools.permutations(range(4)):
            if order != (0, 1, 2, 3):
                names = ", ".join(FOUR[i] for i in order)
                yield LabelChange(f"classes in the order {names}", partial(_reordered_four, order=order))
        return
    yield LabelChange(
        f"ich labels swapped ({', '.join(reversed(ICH_LABELS))})", lambda pair: (pair[0][:, ::-1], pair[1])
    )
    for order in itertools.permutations(range(3)):
        if order != (0, 1, 2):
            names = ", ".join(LOCATION_LABELS[i] for i in order)
            yield LabelChange(f"locations in the order {names}", partial(_reordered_locations, order=order))


def output_changes() -> list[OutputChange]:
    """Probabilities given as logits, and the other way round."""
    return [
        OutputChange(
            "logits given are probabilities (softmax)", lambda pair, t: ours(pair, replace(t, probabilities=True))
        ),
        OutputChange(
            "logits given are probabilities (sigmoid of each)",
            lambda pair, t: sigmoid(ours(pair, replace(t, probabilities=False))),
        ),
        OutputChange("probabilities given are logits", lambda pair, t: ours(pair, replace(t, probabilities=False))),
        OutputChange(
            "logits given are log-probabilities (log_softmax)",
            lambda pair, t: np.log(ours(pair, replace(t, probabilities=True))),
        ),
    ]


def ours(pair: Pair, target: Target) -> Array:
    """This model's numbers for a target's columns, from the logits of both heads."""
    ich, location = map(softmax, pair) if target.probabilities else pair
    columns = dict(zip((*ICH_LABELS, *LOCATION_LABELS), (*ich.T, *location.T), strict=True))
    if target.probabilities and set(target.labels) == set(FOUR):
        columns = {FOUR[0]: ich[:, 0]} | {n: ich[:, 1] * location[:, i] for i, n in enumerate(LOCATION_LABELS)}
    elif not target.probabilities and len(target.labels) == 1:  # one logit is the difference of two
        columns = {ICH_LABELS[1]: ich[:, 1] - ich[:, 0], ICH_LABELS[0]: ich[:, 0] - ich[:, 1]}
    return np.stack([columns[label] for label in target.labels], axis=1)


def sigmoid(logits: Array) -> Array:
    """Of each."""
    result: Array = 1 / (1 + np.exp(-logits))
    return result


def _placed(logits: Array, order: tuple[int, ...]) -> Array:
    """Column i becomes that of label `order[i]`."""
    result = np.empty_like(logits)
    result[:, list(order)] = logits
    return result


def _reordered_locations(pair: Pair, order: tuple[int, ...]) -> Pair:
    return pair[0], _placed(pair[1], order)


def _reordered_four(pair: Pair, order: tuple[int, ...]) -> Pair:
    four = _placed(np.concatenate([pair[0][:, :1], pair[1]], axis=1), order)
    largest = four[:, 1:].max(axis=1, keepdims=True)
    together = largest + np.log(np.exp(four[:, 1:] - largest).sum(axis=1, keepdims=True))
    return np.concatenate([four[:, :1], together], axis=1), four[:, 1:]

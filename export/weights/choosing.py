"""The state dict of a model out of what a checkpoint holds: nested under any usual key, averaged or not, prefixed.

Averaged weights (EMA, SWA, a teacher) beside plain ones are two models: which one is meant is never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dtvit_edge.errors import CheckpointError
from export.weights.reading import kind_of

# Under these people keep a model's weights; the first that is there is taken unless two of them differ.
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "student", "state")
# And under these what is no model.
_NO_MODEL = re.compile(
    r"optim|sched|scaler|amp|callback|loop|hparam|hyper_param|rng|args|config|criterion|loss|metric|histor|datamodule"
    r"|averaging_state",
    re.IGNORECASE,
)
# Averaged copies: timm's `state_dict_ema`, `model_ema`, `ema`, `params_ema`, DINO's `teacher`, SWA.
_AVERAGED = re.compile(r"(^|[_.])(ema|swa|teacher|averaged|shadow)([_.]|$)|_ema|ema_", re.IGNORECASE)
_CALLBACKS = re.compile("callback", re.IGNORECASE)
# Lightning's WeightAveraging saves the average as `state_dict` and the plain weights beside it.
_LIGHTNING_PLAIN = "current_model_state"
# Counters of averaging modules (torch's AveragedModel, timm's and Lightning's EMA).
_COUNTERS = {"n_averaged", "num_updates", "decay", "updates", "initted", "step"}
# Names that wrappers of PyTorch put into keys: torch.compile, activation checkpointing, FSDP.
_WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}
LISTED = 8
_Matrices: TypeAlias = list[tuple[tuple[str, ...], Tensor]]


@dataclass(frozen=True)
class Choice:
    """The tensors that were chosen.

    Attributes:
        tensors: by plain key.
        nested_in: the keys under which they were, joined by dots; empty where the file is the state dict.
        prefix: what all keys began with; it is stripped.
        averaged: they are averaged weights; None where nothing tells.
    """

    tensors: dict[str, Tensor]
    nested_in: str
    prefix: str
    averaged: bool | None


def choose_tensors(
    path: Path, data: Any, *, ema: bool | None = None, key: str | None = None, prefix: str | None = None
) -> Choice:
    """Take the model's tensors out of a checkpoint.

    Args:
        path: for messages.
        data: what `reading.read_weights` gave.
        ema: take averaged weights (True) or plain ones (False); needed where both are there.
        key: where they are nested, dots between keys; None looks.
        prefix: what is stripped from the keys; None strips what all have in common.

    Raises:
        CheckpointError: no weights, two sets of them, or not the ones that were asked for.
    """
    if not isinstance(data, Mapping) or not data:
        raise CheckpointError(f"{path}: holds no weights by name, but {kind_of(data)}")
    groups = dict(_state_dicts(data))
    if not groups:
        entries = [str(name) for name, value in data.items() if not isinstance(value, Tensor)]
        raise CheckpointError(f"{path}: {some('entries that are no tensors', entries)}")
    if key is not None:
        if key not in groups:
            raise CheckpointError(f"{path}: no weights under {key!r}; there are some under {_names(groups)}")
        groups = {key: groups[key]}
    plain, averaged = _split_averages(groups, chosen=key is not None)
    if plain and averaged and ema is None:
        raise CheckpointError(
            f"{path}: holds averaged weights ({_names(averaged)}) beside plain ones ({_names(plain)}); they are two "
            "models: give --ema or --no-ema (or `ema = true` or `false` under [weights] in import.toml)"
        )
    if ema and not averaged:
        raise CheckpointError(f"{path}: --ema asks for averaged weights, but there are plain ones alone")
    if ema is False and not plain:
        raise CheckpointError(f"{path}: --no-ema asks for plain weights, but there are averaged ones alone")
    use_average = bool(averaged) and (ema is True or not plain)
    groups = averaged if use_average else plain
    name, tensors = _one_of(path, groups)
    if ema is None and key is None:  # nobody has said which: what goes by an odd name is looked at as well
        groups = {**dict(_state_dicts(data, everything=True)), **groups}
        if not use_average:
            _require_no_nameless_average(path, data, tensors)
    _require_no_twin(path, groups, name)
    tensors, stripped = _stripped(path, _counted_out(tensors), prefix)
    return Choice(tensors, name, stripped, True if use_average else (False if averaged else None))


def _state_dicts(
    data: Mapping[Any, Any], path: tuple[str, ...] = (), everything: bool = False
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping with tensors of its own, by the keys that lead to it joined by dots; `everything`: of any name."""
    tensors = {str(key): value for key, value in data.items() if isinstance(value, Tensor)}
    nested = [(str(key), value) for key, value in data.items() if isinstance(value, Mapping)]
    deeper = [
        group
        for key, value in nested
        if len(path) < 3
        for group in _state_dicts(value, (*path, key), everything)
        # A callback keeps the average that it makes, and else no model.
        if everything or not _NO_MODEL.search(key) or (_CALLBACKS.search(key) and _is_average(*group))
    ]
    # A loss or an accuracy beside the state dict may be a tensor as well.
    if any(value.ndim for value in tensors.values()) or (tensors and not deeper):
        yield ".".join(path), tensors
    yield from deeper


def _is_average(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a group is a copy of a model by its name, and no few numbers beside one."""
    return bool(_AVERAGED.search(name)) and any(key.endswith("weight") for key in tensors)


def _split_averages(
    groups: dict[str, dict[str, Tensor]], chosen: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """Plain and averaged groups. Averages live under a key of their own, or behind a prefix inside a state dict."""
    plain: dict[str, dict[str, Tensor]] = {}
    averaged: dict[str, dict[str, Tensor]] = {}
    for name, tensors in groups.items():
        is_average = bool(_AVERAGED.search(name)) or (name == "state_dict" and _LIGHTNING_PLAIN in groups)
        if not is_average and "n_averaged" in tensors:  # torch.optim.swa_utils.AveragedModel
            is_average = True
        if is_average:
            averaged[name] = tensors
            continue
        behind: dict[str, dict[str, Tensor]] = {}
        rest: dict[str, Tensor] = {}
        for key, value in tensors.items():
            first, _, remainder = key.partition(".")
            if remainder and _AVERAGED.search(first):
                behind.setdefault(first, {})[remainder] = value
            else:
                rest[key] = value
        for first, part in behind.items():
            averaged[f"{name}.{first}".lstrip(".")] = part
        if any(value.ndim for value in rest.values()):
            plain[name] = rest
    return plain, averaged


def _one_of(path: Path, groups: dict[str, dict[str, Tensor]]) -> tuple[str, dict[str, Tensor]]:
    """The one group that is the model; parts of a model that were saved each by itself are joined."""
    if len(groups) == 1:
        return next(iter(groups.items()))
    usual = [name for name in groups if name.partition(".")[0] in USUAL or name == ""]
    if len(usual) == 1:
        return usual[0], groups[usual[0]]
    if usual:
        first = groups[usual[0]]
        if all(_equal(first, groups[name]) for name in usual[1:]):
            return usual[0], first
        raise CheckpointError(
            f'{path}: weights under {_names(groups)} differ; say which under [weights] in import.toml: key = "..."'
        )
    joined = {f"{name}.{key}": value for name, tensors in groups.items() for key, value in tensors.items()}
    return "", joined


def _require_no_twin(path: Path, groups: Mapping[str, dict[str, Tensor]], chosen: str) -> None:
    """Refuse to guess where a file holds a model twice, by whatever name, and not with the same values."""
    matrices = {name: _matrices(tensors) for name, tensors in groups.items()}
    together = sum(len(held) for held in matrices.values())
    # Parts that were saved each by itself are alike as well, as blocks are: none of them is a third of the model.
    models = [chosen] if chosen in matrices else [name for name, held in matrices.items() if 3 * len(held) >= together]
    for one in models:
        others = matrices if chosen in matrices else models
        twins = [name for name in others if name != one and _are_alike(matrices[one], matrices[name])]
        if differing := [name for name in twins if not _hold_the_same(matrices[one], matrices[name])]:
            raise CheckpointError(
                f"{path}: holds the same model with other weights under {_names(dict.fromkeys([one, *differing]))}; "
                'say which is meant under [weights] in import.toml: key = "..."'
            )


def _matrices(tensors: Mapping[str, Tensor]) -> _Matrices:
    """What has more than one dimension, by the last two names of its key: what stands before may be a wrapper's."""
    return [(tuple(_unwrapped(key).split(".")[-2:]), value) for key, value in tensors.items() if value.ndim > 1]


def _are_alike(one: _Matrices, other: _Matrices) -> bool:
    """Whether nearly all of one model is in another: a head or a loss may be left out, renamed or added."""
    shapes, others = (Counter((name, value.shape) for name, value in held) for held in (one, other))
    return len(one) > 1 and (shapes & others).total() >= 0.8 * shapes.total()


def _hold_the_same(one: _Matrices, other: _Matrices) -> bool:
    known: dict[tuple[tuple[str, ...], torch.Size], list[Tensor]] = {}
    for name, value in other:
        known.setdefault((name, value.shape), []).append(value)
    shared = [(value, known[name, value.shape]) for name, value in one if (name, value.shape) in known]
    return all(any(_same(value, equal) for equal in equals) for value, equals in shared)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, as far as the narrower of their types says it."""
    if a.shape != b.shape:
        return False
    narrower = min(a.dtype, b.dtype, key=lambda kind: kind.itemsize)
    return torch.equal(a.to(narrower), b.to(narrower))


def _require_no_nameless_average(path: Path, data: Mapping[Any, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a list of parameters without names beside the model, as torch_ema's `shadow_params` is one."""
    shapes = Counter(value.shape for value in tensors.values() if value.ndim > 1)
    for name, values in _lists(data):
        matrices = [value for value in values if value.ndim > 1]
        alike = Counter(value.shape for value in matrices) & shapes
        if 2 * alike.total() <= shapes.total() or all(any(_same(v, t) for t in tensors.values()) for v in matrices):
            continue
        raise CheckpointError(
            f"{path}: {len(values)} tensors without names under {name!r} have the shapes of the model's: an average of "
            "it (torch_ema)? Copy them into the model where it was trained (`ema.copy_to(model.parameters())`), and "
            "save that, or give --no-ema for the weights that have names"
        )


def _lists(data: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Tensor]]]:
    """Lists of tensors, by the keys that lead to them; what is no model holds none of a model."""
    for key, value in data.items():
        if _NO_MODEL.search(str(key)):
            continue
        if isinstance(value, (list, tuple)) and value and all(isinstance(one, Tensor) for one in value):
            yield ".".join((*path, str(key))), list(value)
        elif isinstance(value, Mapping) and len(path) < 3:
            yield from _lists(value, (*path, str(key)))


def _counted_out(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the counters of averages, by keys without what wrappers put into them."""
    plain = {_unwrapped(key): value for key, value in tensors.items()}
    return {k: v for k, v in plain.items() if k.rpartition(".")[2] not in _COUNTERS or v.ndim > 0}


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _unwrapped(key: str) -> str:
    """A key without the names that wrappers put into it; no module of a user's is called so."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _stripped(path: Path, tensors: dict[str, Tensor], prefix: str | None) -> tuple[dict[str, Tensor], str]:
    if prefix is not None:
        kept = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if not kept:
            raise CheckpointError(f"{path}: no key begins with {prefix!r}; there are {groups_of(tensors)}")
        return kept, prefix
    stripped = ""
    while True:
        first = {key.partition(".")[0] for key in tensors}
        if len(first) != 1 or any("." not in key for key in tensors):
            return tensors, stripped
        head = f"{first.pop()}."
        tensors = {key.removeprefix(head): value for key, value in tensors.items()}
        stripped += head


def some(kind: str, keys: list[str]) -> str:
    """`2 missing: a, b`; the first few of many."""
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:LISTED])}{more}"


def groups_of(keys: Mapping[str, Any]) -> str:
    """Keys in groups by their first two names, for a message: `backbone.blocks (148), head (2)`."""
    counts: dict[str, int] = {}
    for key in keys:
        parts = key.split(".")
        group = ".".join(parts[: max(1, min(2, len(parts) - 1))])
        counts[group] = counts.get(group, 0) + 1
    shown = [f"{group} ({count})" for group, count in list(counts.items())[:LISTED]]
    more = f" and {len(counts) - LISTED} more groups" if len(counts) > LISTED else ""
    return f"{', '.join(shown)}{more}"


def _names(groups: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) if name else "the top" for name in groups)

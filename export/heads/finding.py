"""Heads found among the tensors that are not the encoder's: by their shapes, and by where they stand.

What parameterless layers stand between two with weights is in no tensor. In an `nn.Sequential` the numbers show where
one could be; what it computes is asked for, and so is its place where there are two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from dtvit_edge.errors import CheckpointError
from export.heads.layers import LINEAR, Part, parts_of

# The widths that a head's last layer may have: one logit, two classes, three places, four classes, both at once.
ANSWERS = (1, 2, 3, 4, 5)
# Registered beside the model in training, and no part of what it computes.
_TRAINING_ONLY = re.compile(
    r"^(criterion|loss|loss_fn|loss_\w+|\w+_loss|metrics?|\w+_metrics?|class_weights?|log_vars?|log_sigmas?|log_variances?)(\.|$)"
)
# A place in a list of layers where an activation has to be named.
OPEN = "?"


@dataclass(frozen=True)
class FoundHead:
    """One head.

    Attributes:
        layers: keys in order, `OPEN` where an activation has to be named.
        outputs: width of the last layer.
        doubts: sentences on places that stay open even with an activation.
        assumed: a sentence on what was taken for nothing; empty where there is nothing to say.
    """

    layers: tuple[str, ...]
    outputs: int
    doubts: tuple[str, ...] = ()
    assumed: str = ""

    @property
    def is_open(self) -> bool:
        """Whether an activation has to be named."""
        return OPEN in self.layers


def find_heads(
    tensors: Mapping[str, Tensor], width: int, known_activations: Mapping[str, str]
) -> tuple[dict[str, FoundHead], list[str]]:
    """The heads among the tensors beside the encoder.

    Args:
        width: of the encoder's features, or of what follows them.
        known_activations: by layer's key, what the library computes after it.

    Returns:
        Heads by name (what their keys have in common), and the keys of training alone that were left out.

    Raises:
        CheckpointError: a layer of another kind, or layers that are in no head.
    """
    left_out = [key for key in tensors if any(_TRAINING_ONLY.match(part) for part in _beginnings(key))]
    chains = _chains(parts_of({key: value for key, value in tensors.items() if key not in left_out}), "")
    heads: dict[str, FoundHead] = {}
    used: set[str] = set()
    for name, chain in chains.items():
        if chain[-1].outputs not in ANSWERS:
            continue
        if chain[0].inputs != width:
            # Layers that several heads share stand before them.
            trunks = [
                other
                for other in chains.values()
                if other is not chain and other[0].inputs == width and other[-1].outputs == chain[0].inputs
            ]
            if len(trunks) != 1:
                continue
            used |= {part.key for part in trunks[0]}
            chain = [*trunks[0], *chain]
        used |= {part.key for part in chain}
        heads[name or chain[-1].key] = _with_activations(chain, known_activations)
    unused = [
        f"{part.key} ({part.kind}, {part.inputs} to {part.outputs})"
        for chain in chains.values()
        for part in chain
        if part.key not in used
    ]
    if unused or not heads:
        raise CheckpointError(
            f"no heads are recognised beside an encoder of {width} features"
            if not unused
            else f"layers beside the encoder ({width} features) that are in no head: {', '.join(unused[:8])}; say in "
            'import.toml which are, in order: [heads.ich] layers = ["...", "relu", "..."]; where a head reads other '
            "features than these, give the module itself, --model FILE.py:FACTORY"
        )
    return heads, left_out


def _beginnings(key: str) -> list[str]:
    """The parts of a key, each with a dot unless it is the last."""
    return [f"{part}." for part in key.split(".")[:-1]] or [key]


def _chains(parts: list[Part], prefix: str) -> dict[str, list[Part]]:
    """Layers in groups that can follow each other, each group the largest that has its keys' beginning in common."""
    if not parts:
        return {}
    ordered = _in_order(parts)
    if ordered is not None:
        return {prefix: ordered}
    children: dict[str, list[Part]] = {}
    for part in parts:
        remainder = part.key.removeprefix(f"{prefix}." if prefix else "")
        first = remainder.partition(".")[0]
        children.setdefault(f"{prefix}.{first}" if prefix else first, []).append(part)
    return {name: chain for child, group in children.items() for name, chain in _chains(group, child).items()}


def _in_order(parts: list[Part]) -> list[Part] | None:
    """The layers as a chain, numbers in rising order; None where widths do not follow each other."""
    for order in (sorted(parts, key=_numbers), parts, _by_width(parts)):
        ends = [part for part in order if part.kind == LINEAR and part.outputs in ANSWERS]
        if order and all(a.outputs == b.inputs for a, b in pairwise(order)) and len(ends) <= 1:
            return list(order)
    return None


def _numbers(part: Part) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in part.key.split(".")]


def _by_width(parts: list[Part]) -> list[Part]:
    """Linear layers alone, each after the one that gives what it takes; empty where that is not the only order."""
    takes = {part.inputs: part for part in parts}
    starts = [part for part in parts if part.inputs not in {other.outputs for other in parts}]
    if len(takes) != len(parts) or len(starts) != 1 or any(part.kind != LINEAR for part in parts):
        return []
    order = [starts[0]]
    while order[-1].outputs in takes and len(order) < len(parts):
        order.append(takes[order[-1].outputs])
    return order if len(order) == len(parts) else []


def _with_activations(chain: list[Part], known: Mapping[str, str]) -> FoundHead:
    """The layers with the places where an activation is or may be."""
    layers: list[str] = []
    doubts: list[str] = []
    places: list[tuple[int, str]] = []  # where in `layers` something may stand, since the last Linear
    seen_linear = False
    for before, part in zip([None, *chain[:-1]], chain, strict=True):
        if before is not None and before.key in known:
            layers.append(known[before.key])
            places = []
        elif before is not None and _gap(before, part) != 0:
            places.append((len(layers), before.key))
        if part.kind == LINEAR:
            if seen_linear and len(places) == 1:
                layers.insert(places[0][0], OPEN)
            elif places:
                doubts.append(_doubt(places, part))
            seen_linear, places = True, []
        layers.append(part.key)
    if places:
        doubts.append(_doubt(places, chain[-1]))
    assumed = f"nothing but dropout stands before {chain[0].key}" if _gap(None, chain[0]) else ""
    return FoundHead(tuple(layers), chain[-1].outputs, tuple(doubts), assumed)


def _doubt(places: list[tuple[int, str]], part: Part) -> str:
    return (
        f"between {places[0][1]} and {part.key} an activation may stand after {' or '.join(key for _, key in places)}"
    )


def _gap(before: Part | None, part: Part) -> int:
    """How many layers without weights stand between two; -1 where no number says it."""
    parent, _, number = part.key.rpartition(".")
    if not number.isdigit():
        return 0 if before is None else -1
    if before is None:
        return int(number)
    before_parent, _, before_number = before.key.rpartition(".")
    if parent != before_parent or not before_number.isdigit():
        return -1
    return int(number) - int(before_number) - 1

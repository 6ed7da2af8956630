"""A user's outputs as the two that the graph has, exactly.

Labels in another order are rows of the last Linear in another order; one logit (a sigmoid's) is the same as two, of
which the other is 0; a head of four classes says by logsumexp how much is a haemorrhage, and its three logits where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import HEAD_LABELS, ICH_LABELS, LOCATION_LABELS

NO_ICH, ICH = ICH_LABELS
FOUR = (NO_ICH, *LOCATION_LABELS)
FIVE = (*ICH_LABELS, *LOCATION_LABELS)
# By number of outputs, what they are unless somebody says otherwise.
USUAL_LABELS: dict[int, tuple[str, ...]] = {1: (ICH,), 2: ICH_LABELS, 3: LOCATION_LABELS, 4: FOUR, 5: FIVE}


@dataclass(frozen=True)
class HeadPair:
    """The two heads of the graph, from features each.

    Attributes:
        ich: (N, F) to (N, 2) logits of `ICH_LABELS`.
        location: (N, F) to (N, 3) logits of `LOCATION_LABELS`; untrained where the user's model has none.
        untrained: names of heads that the user's model does not have.
    """

    ich: nn.Sequential
    location: nn.Sequential
    untrained: tuple[str, ...] = ()


class FourClasses(nn.Module):
    """(N, 4) logits, no haemorrhage first, to (N, 2): `[l0, logsumexp(l1, l2, l3)]`."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class. The maximum is taken out first, so that nothing overflows."""
        places = x[:, 1:4]
        largest = places.amax(dim=1, keepdim=True)
        together = largest + (places - largest).exp().sum(dim=1, keepdim=True).log()
        return torch.cat([x[:, :1], together], dim=1)


class NoLocation(nn.Module):
    """(N, 2) logits of haemorrhage to three logits that say nothing about the place; they are left empty everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([x, x[:, :1]], dim=1)


class Rows(nn.Module):
    """Outputs in another order, or some of them; None is an output that is 0."""

    def __init__(self, rows: Sequence[int | None]) -> None:
        """Take the index of each new output."""
        super().__init__()
        self.rows = tuple(rows)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        zero = torch.zeros_like(x[:, :1])
        return torch.cat([zero if row is None else x[:, row : row + 1] for row in self.rows], dim=1)


def section_of(kind: str) -> str:
    """What import.toml calls a kind of head (`check_labels`) under [heads]."""
    return "classes" if kind in ("four", "five") else kind


def check_labels(labels: Sequence[str], outputs: int | None) -> str:
    """Which head a list of labels is: `ich`, `location`, `four` or `five`.

    Raises:
        ConfigError: another number than there are outputs, unknown or repeated labels, or labels that are no head.
    """
    if outputs is not None and len(labels) != outputs:
        raise ConfigError(f"{len(labels)} labels ({', '.join(labels)}) for {outputs} outputs")
    unknown = [label for label in labels if label not in FIVE]
    if unknown:
        raise ConfigError(f"no label is called {', '.join(map(repr, unknown))}; there are {', '.join(FIVE)}")
    kinds: Mapping[frozenset[str], str] = {
        frozenset([ICH]): "ich",
        frozenset([NO_ICH]): "ich",
        frozenset(ICH_LABELS): "ich",
        frozenset(LOCATION_LABELS): "location",
        frozenset(FOUR): "four",
        frozenset(FIVE): "five",
    }
    kind = kinds.get(frozenset(labels))
    if kind is None or len(set(labels)) != len(labels):
        raise ConfigError(
            f"outputs {', '.join(labels)} are no head: known are {', '.join(HEAD_LABELS['ich'])}; ich alone (one "
            f"logit); {', '.join(LOCATION_LABELS)}; no_ich with the three places (four classes); all five"
        )
    return kind


def two_heads(heads: Sequence[tuple[Sequence[nn.Module], Sequence[str]]]) -> HeadPair:
    """The graph's two heads from a user's one or two.

    Args:
        heads: modules and the labels of their outputs, in order.

    Raises:
        ConfigError: labels that are no head, a head twice, or none that says whether there is a haemorrhage.
    """
    ich: nn.Sequential | None = None
    location: nn.Sequential | None = None
    for modules, labels in heads:
        kind = check_labels(labels, None)
        says_ich, says_location = kind != "location", kind not in ("ich",)
        if (says_ich and ich is not None) or (says_location and location is not None):
            raise ConfigError(f"two heads say the same: {', '.join(labels)} are among their outputs")
        if kind == "four":
            ich = nn.Sequential(*_picked(modules, labels, FOUR), FourClasses())
        elif says_ich:
            ich = nn.Sequential(*_picked(modules, labels, ICH_LABELS))
        if says_location:
            location = nn.Sequential(*_picked(modules, labels, LOCATION_LABELS))
    if ich is None:
        raise ConfigError("no head says whether there is a haemorrhage (outputs no_ich, ich); nothing can be exported")
    if location is None:
        return HeadPair(ich, nn.Sequential(*ich, NoLocation()), ("location",))
    return HeadPair(ich, location)


def _picked(modules: Sequence[nn.Module], labels: Sequence[str], wanted: Sequence[str]) -> list[nn.Module]:
    """The modules with these outputs in this order; rows of the last Linear where there is one.

    A single logit stands for two of which the other is 0.
    """
    rows = [labels.index(label) if label in labels else None for label in wanted]
    if list(rows) == list(range(len(labels))):
        return list(modules)
    last = modules[-1] if modules else None
    if not isinstance(last, nn.Linear):
        return [*modules, Rows(rows)]
    picked = nn.Linear(last.in_features, len(rows), bias=last.bias is not None)
    with torch.no_grad():
        picked.weight.zero_()
        if last.bias is not None:
            picked.bias.zero_()
        for new, old in enumerate(rows):
            if old is None:
                continue
            picked.weight[new] = last.weight[old]
            if last.bias is not None:
                picked.bias[new] = last.bias[old]
    return [*modules[:-1], picked]

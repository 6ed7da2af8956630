"""What the gate asks of a lower precision, how few slices can tell, and the options for it, of every command."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from dtvit_edge.cli.option_set import option_set

# The share of slices that --difference is asked of.
HIGH_QUANTILE = 0.995
# A limit is broken for sure where so many exceptions would be seen less often than this if it were kept.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Limits:
    """What a precision must keep to pass; the defaults are this project's.

    Attributes:
        agreement: at home, the share of slices, and of studies, with the same decision, on each head.
        auc: largest |difference| of the haemorrhage head's AUC, at home.
        slices: at home fewer than this prove nothing; with 0, which no option takes, any number does, here and away.
        shift_agreement: as `agreement`, under each shift of the scanner and on another site's slices.
        difference: largest 99.5th percentile of |difference of the haemorrhage probability|, everywhere.
        shift_slices: how many slices of the test set are shifted; 0 leaves the shifts out.
    """

    agreement: float = 0.995
    auc: float = 0.002
    slices: int = 500
    shift_agreement: float = 0.99
    difference: float = 0.05
    shift_slices: int = 256

    @property
    def off(self) -> tuple[str, ...]:
        """The options by which something is not asked at all: with any of them nothing is passed, only not gated."""
        return options_off(asdict(self))

    @property
    def least_elsewhere(self) -> int:
        """The fewest slices, away from home, among which one other decision still keeps the limit; never over 500.

        However few are asked for at home: a verdict on fewer would say nothing, and still read `passed`.
        """
        if self.slices == 0:
            return 0
        return min(Limits.slices, math.ceil(round(1 / max(1 - self.shift_agreement, 1e-9), 6)))


DEFAULT_LIMITS = Limits()


def options_off(limits: Mapping[str, Any]) -> tuple[str, ...]:
    """The options by which something is not asked, of limits as a manifest or a record has them."""
    from dtvit_edge.bundle.verdicts import switched_off

    options = {field: f"--{option.replace('_', '-')}" for option, field in LIMIT_OPTIONS.items()}
    return tuple(options[field] for field in switched_off(limits))


def exceeds(exceptions: int, count: int, allowed: float) -> bool | None:
    """Whether so many exceptions among `count` break a limit; None where there are too few to tell.

    Among fewer than 1 / `allowed`, a single exception is more than the limit allows and may be chance: there the limit
    counts as broken only where so many would be seen in less than one of twenty sets that keep it (binomial).
    """
    if exceptions <= allowed * count + 1e-9:
        return False
    if allowed <= 0 or count * allowed >= 1 - 1e-9:
        return True
    fewer = sum(math.comb(count, k) * allowed**k * (1 - allowed) ** (count - k) for k in range(exceptions))
    return True if 1 - fewer < SIGNIFICANCE else None


# By what a command is given by them: the field of `Limits` that an option sets, and its help.
_OPTIONS = {
    "agreement": (
        "agreement",
        "Ask of the gate that each head decides at least this share of the test slices, and of their studies, as fp32 "
        "does.",
    ),
    "delta_auc": ("auc", "Allow the AUC of the haemorrhage head to differ from that of fp32 by at most this much."),
    "least_slices": ("slices", "Call the gate's verdict inconclusive where the test set has fewer slices than this."),
    "shift_agreement": (
        "shift_agreement",
        "Ask for this share of equal decisions under each shift of the scanner, and on slices of another site.",
    ),
    "difference": (
        "difference",
        "Allow the haemorrhage probability to differ by at most this much on 99.5 % of the slices, everywhere.",
    ),
    "shift_slices": (
        "shift_slices",
        "Shift at most this many slices of the test set, once for each of eight shifts; 0 leaves the shifts out, and "
        "then no precision counts as passed.",
    ),
}
_COUNTS = {"slices": click.IntRange(1), "shift_slices": click.IntRange(0)}
LIMIT_OPTIONS = {option: field for option, (field, _) in _OPTIONS.items()}
limit_options = option_set(
    *(
        click.option(
            f"--{option.replace('_', '-')}",
            default=getattr(DEFAULT_LIMITS, field),
            show_default=True,
            type=_COUNTS.get(field),
            help=help_text,
        )
        for option, (field, help_text) in _OPTIONS.items()
    )
)


def split_limits(chosen: Mapping[str, Any]) -> tuple[Limits, dict[str, Any]]:
    """The limits that a command's options ask for, and the other options."""
    asked = {field: chosen[option] for option, field in LIMIT_OPTIONS.items()}
    return Limits(**asked), {name: value for name, value in chosen.items() if name not in LIMIT_OPTIONS}

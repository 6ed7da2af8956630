"""What the gate asks of a lower precision, and the options that change it, for every command that asks the gate."""

from __future__ import annotations

from dataclasses import dataclass

import click

from dtvit_edge.cli.option_set import option_set


@dataclass(frozen=True)
class Limits:
    """What a precision must keep to pass; the defaults are this project's.

    Attributes:
        agreement: share of slices with the same decision, on each head.
        auc: largest |difference| of the haemorrhage head's AUC.
        slices: fewer than this prove nothing.
    """

    agreement: float = 0.995
    auc: float = 0.002
    slices: int = 500


DEFAULT_LIMITS = Limits()

# A command takes them as `agreement`, `delta_auc` and `least_slices`.
limit_options = option_set(
    click.option(
        "--agreement",
        default=DEFAULT_LIMITS.agreement,
        show_default=True,
        help="Ask of the gate that each head decides at least this share of the test slices as fp32 does.",
    ),
    click.option(
        "--delta-auc",
        default=DEFAULT_LIMITS.auc,
        show_default=True,
        help="Allow the AUC of the haemorrhage head to differ from that of fp32 by at most this much.",
    ),
    click.option(
        "--least-slices",
        default=DEFAULT_LIMITS.slices,
        show_default=True,
        help="Call the gate's verdict inconclusive where the test set has fewer slices than this.",
    ),
)

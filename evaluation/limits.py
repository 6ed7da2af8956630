"""What the gate asks of a lower precision; in a module of its own, since commands show the defaults in their help."""

from __future__ import annotations

from dataclasses import dataclass


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

"""What the gate said of a bundle's precisions and configurations, as its manifest has it.

A configuration is a precision, alone or with the hint that a backend is given for the rest: `int8`, `int8+bf16`. One
that is not named was never judged. Older manifests say `passed` of what nothing was asked of; here they say what is so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtvit_edge.bundle.manifest import Manifest

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
NOT_GATED = "not gated"  # a limit was switched off: nothing was proved
NOT_ASSESSED = "not assessed"
VERDICTS = (PASSED, FAILED, INCONCLUSIVE, NOT_GATED)


def configuration_name(precision: str, hint: str | None = None) -> str:
    """What a configuration is called: `int8`, or `int8+bf16`; the hint of f32 changes nothing."""
    return precision if hint in (None, "f32") else f"{precision}+{hint}"


def gate_verdicts(manifest: Manifest) -> dict[str, str]:
    """The gate's verdict on each configuration that it judged, by name; empty before a calibration."""
    calibration = manifest.calibration or {}
    limits = calibration.get("config", {}).get("limits", {})
    judged = {entry["precision"]: entry["verdict"] for entry in calibration.get("verdicts", ())}
    judged |= {name: entry["verdict"] for name, entry in calibration.get("configurations", {}).items()}
    return {name: real_verdict(verdict, limits) for name, verdict in judged.items()}


def verdict_of(manifest: Manifest, precision: str, hint: str | None = None) -> str:
    """The gate's verdict on one configuration, `NOT_ASSESSED` where nobody judged it."""
    return gate_verdicts(manifest).get(configuration_name(precision, hint), NOT_ASSESSED)


def real_verdict(verdict: str, limits: Mapping[str, Any]) -> str:
    """A verdict that was written down beside its limits: nothing is passed that nothing was asked of."""
    return NOT_GATED if verdict == PASSED and switched_off(limits) else verdict


def switched_off(limits: Mapping[str, Any]) -> tuple[str, ...]:
    """The limits, by the fields of `evaluation.limits.Limits`, that ask nothing; one that is not there was asked."""
    return tuple(name for name, asks_nothing in _ASKS_NOTHING.items() if name in limits and asks_nothing(limits[name]))


# A share of equal decisions of 0, any difference of figures between 0 and 1, no slices.
_ASKS_NOTHING: dict[str, Callable[[float], bool]] = {
    "agreement": lambda share: share <= 0,
    "auc": lambda difference: difference >= 1,
    "shift_agreement": lambda share: share <= 0,
    "difference": lambda difference: difference >= 1,
    "shift_slices": lambda count: count < 1,
}

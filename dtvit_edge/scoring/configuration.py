"""Which configuration a run takes: what is asked for, what the folder began with, the device profile's, or fp32.

Where the precision is named, nothing else decides. With `auto`, an output folder that was begun keeps its own; a new
one takes the device profile's choice. Options that are given narrow the choice to the configurations that were measured
with them; where there is none, the rest is left as it is without a profile. Nothing but fp32 is taken that the gate did
not pass, whatever a profile or a journal says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dtvit_edge import backends
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.bundle.device_profile import Configuration, DeviceProfile, Measured, read_profile
from dtvit_edge.bundle.verdicts import PASSED, verdict_of
from dtvit_edge.errors import BundleError, MissingDependency
from dtvit_edge.precisions import EXACT
from dtvit_edge.scoring.device_facts import library_versions, machine_facts
from dtvit_edge.scoring.options import AUTO, Options, thresholds_of
from dtvit_edge.trt.store import engine_precisions
from dtvit_edge.trt.verdicts import engine_verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved:
    """Options of which backend and precision are named, and in words where they come from."""

    options: Options
    why: str


def resolve(bundle: Bundle, options: Options, begun: Mapping[str, Any] | None = None) -> Resolved:
    """Name what is left open, and log it with the reason.

    Args:
        begun: what the output folder's journal says of its configuration; empty where it says nothing, None where
            there is no journal.

    Raises:
        MissingDependency, ConfigError: a backend that is not here, or none is.
    """
    resolved = _resolve(bundle, options, begun)
    choice = backends.choose(resolved.options.backend)
    used = replace(resolved.options, backend=choice.name)
    if options.backend == AUTO != resolved.options.backend:
        log.info("backend %s, precision %s: %s", used.backend, used.precision, resolved.why)
    else:
        log.info("backend %s: %s; precision %s: %s", used.backend, choice.why, used.precision, resolved.why)
    return Resolved(used, resolved.why)


def verdict(bundle: Bundle, backend: str, precision: str, hint: str | None) -> str:
    """The gate's verdict on what a backend computes of a precision; `passed` of fp32 without a lower hint."""
    if precision in EXACT and hint in (None, "f32"):
        return PASSED
    if backends.runs_engines(backend):
        return engine_verdict(bundle.manifest, precision)
    return verdict_of(bundle.manifest, precision, hint)


def usable_profile(bundle: Bundle, options: Options | None = None) -> tuple[DeviceProfile | None, str]:
    """The device profile beside a bundle, if it holds here and now.

    Returns:
        The profile, and nothing; or None, and in words why there is none that can be used.
    """
    try:
        profile = read_profile(bundle.path)
    except BundleError as error:
        return None, f"the device profile is not used: {error}; `dtvit-edge tune` makes it anew"
    if profile is None:
        return None, "no device profile (`dtvit-edge tune` makes one)"
    thresholds = thresholds_of(bundle, options or Options()).values
    why_not = profile.differs_from(bundle.digest, thresholds, machine_facts(), library_versions())
    if not why_not and (why_not := _why_not(bundle, profile.chosen)):
        why_not = f"{profile.chosen.words}: {why_not}"
    if why_not:
        return None, f"the device profile is not used: {why_not}; `dtvit-edge tune` measures anew"
    return profile, ""


def fastest(measured: Sequence[Measured]) -> tuple[Measured, str]:
    """The fastest of some, or a more exact one that cannot be told from it; and why.

    Args:
        measured: at least one.
    """
    first = min(measured, key=lambda m: m.ms)
    level = [m for m in measured if m.low_ms <= first.high_ms]
    exactness = min(m.configuration.exactness for m in level)
    if exactness < first.configuration.exactness:
        taken = min((m for m in level if m.configuration.exactness == exactness), key=lambda m: m.ms)
        return taken, f"the most exact of those that cannot be told from the fastest: {_ms(taken)}, {_named(first)}"
    others = ", ".join(_named(m) for m in level if m is not first)
    return first, f"the fastest: {_ms(first)}" + (f"; not to be told from it: {others}" if others else "")


def _ms(m: Measured) -> str:
    return f"{m.ms:.3g} ms a slice ({m.low_ms:.3g} to {m.high_ms:.3g})"


def _named(m: Measured) -> str:
    return f"{m.configuration.words} {m.ms:.3g} ({m.low_ms:.3g} to {m.high_ms:.3g})"


def _resolve(bundle: Bundle, options: Options, begun: Mapping[str, Any] | None) -> Resolved:
    if options.precision != AUTO:
        return Resolved(options, "asked for")
    without = replace(options, precision=REFERENCE_PRECISION)
    profile, why_not = usable_profile(bundle, options)
    if begun is not None:
        return _begun(bundle, options, begun, profile) or Resolved(without, "as the output folder began, before tune")
    if profile is None:
        if why_not.startswith("the device"):
            log.warning("%s", why_not)
            why_not = "the device profile is not used"
        return Resolved(without, f"{why_not}: what is used without one")
    suiting = [m for m in profile.measured if _suits(options, m.configuration)]
    suiting = [m for m in suiting if not _why_not(bundle, m.configuration)]
    if _suits(options, profile.chosen):
        return Resolved(_with(options, profile.chosen), f"the device profile: {profile.chosen.words}, {profile.why}")
    if suiting:
        taken, why = fastest(suiting)
        return Resolved(
            _with(options, taken.configuration),
            f"the device profile, of what suits the options {taken.configuration.words}, {why}",
        )
    return Resolved(without, "the device profile has nothing that passed with these options: what is used without one")


def _begun(
    bundle: Bundle, options: Options, begun: Mapping[str, Any], profile: DeviceProfile | None
) -> Resolved | None:
    """What the folder began with, if it says so, it passed its gate, and the options do not say otherwise."""
    try:
        kept = Configuration.from_dict(dict(begun))
        why_not = _why_not(bundle, kept)
    except (BundleError, MissingDependency):
        return None
    if why_not or not _suits(options, kept):
        return None
    why = f"the output folder began with it: {kept.words}"
    if profile is not None and profile.chosen != kept:
        why += f"; the device profile's {profile.chosen.words} is for new folders"
    return Resolved(_with(options, kept), why)


def _why_not(bundle: Bundle, configuration: Configuration) -> str:
    """Why a configuration from a file may not be taken, empty where it may."""
    if configuration.backend not in backends.NAMES:
        return "there is no such backend"
    said = verdict(bundle, configuration.backend, configuration.precision, configuration.hint)
    if said != PASSED:
        return f"the gate said: {said}"
    if backends.runs_engines(configuration.backend):
        here = configuration.precision in engine_precisions(bundle, configuration.backend)
    else:
        here = configuration.precision in bundle.present
    return "" if here else "its file is not in this copy of the bundle"


def _suits(options: Options, configuration: Configuration) -> bool:
    """A configuration has every value that was given."""
    gpu = backends.runs_engines(configuration.backend)
    return (
        options.backend in (AUTO, configuration.backend)
        and options.hint in (None, configuration.hint or "f32")
        and options.threads in (None, configuration.threads)
        and options.batch in (None, configuration.batch)
        and (options.device is None or (gpu and options.device == 0))
    )


def _with(options: Options, configuration: Configuration) -> Options:
    return replace(
        options,
        backend=configuration.backend,
        precision=configuration.precision,
        hint=configuration.hint,
        threads=configuration.threads,
        batch=configuration.batch,
    )

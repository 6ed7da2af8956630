"""What the results in an output folder depend on, beside the files: the identity of a run.

Two runs of one identity over the same files give the same bytes (on a GPU within tolerance, unless it is
deterministic), so that what one of them scored is taken over by the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.environment import package_versions
from dtvit_edge.scoring.options import Options, thresholds_of

# Of the options: what changes no result, and what stands elsewhere in the identity.
_NOT_OF_THE_RESULTS = ("workers", "threshold")
_MOST_DIFFERENCES = 4  # that a message names


def run_identity(bundle: Bundle, backend: Backend, batch: int, options: Options) -> dict[str, Any]:
    """The identity of a run, as plain JSON types.

    Args:
        backend: opened.
        options: resolved, so that backend and precision are named.
    """
    described = backend.describe()
    asked = asdict(options) | {"batch": batch}
    others = set(backends.NAMES) - {described["backend"]}
    manifest = bundle.manifest
    return {
        # The bundle around it may grow by another precision, an engine or a signature.
        "model": described.get("engine") or model_digest(bundle, options.precision),
        "model_status": manifest.training,
        "untrained_heads": list(manifest.untrained_heads),
        "spec": manifest.spec.digest,
        "thresholds": thresholds_of(bundle, options).values,
        "options": {name: value for name, value in asked.items() if name not in _NOT_OF_THE_RESULTS},
        "backend": described,
        "packages": {name: version for name, version in package_versions().items() if name not in others},
    }


def differences(begun: Any, here: Mapping[str, Any]) -> str:
    """In words, in what another identity differs from this one: `options batch: 4 there, 8 here`.

    Args:
        begun: of a journal, whatever it is.
    """
    there, now = _flat(begun), _flat(here)
    names = [name for name in (there | now) if there.get(name) != now.get(name)]
    said = [f"{name}: {_short(there, name)} there, {_short(now, name)} here" for name in names[:_MOST_DIFFERENCES]]
    more = len(names) - _MOST_DIFFERENCES
    return "; ".join(said) + (f"; and {more} more" if more > 0 else "")


def model_digest(bundle: Bundle, precision: str) -> str:
    """The sha256 of a precision's model; the bundle's digest where it has none."""
    record = bundle.manifest.models.get(precision)
    return bundle.digest if record is None else record.sha256


def _flat(data: Any, name: str = "") -> dict[str, str]:
    if not isinstance(data, Mapping):
        return {name: str(data)}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{name} {key}".strip()).items()}


def _short(values: dict[str, str], name: str) -> str:
    # From a file that anybody may have written: nothing of it but what a message can hold.
    return ascii(values.get(name, "none"))[1:-1][:40]

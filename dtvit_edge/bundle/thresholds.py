"""`thresholds.json`: above which probability a slice or a study is positive.

It lies beside the manifest and is no part of its digest, so that tuning a threshold voids no engine. Without the file
both are 0.5, "not tuned".
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dtvit_edge.bundle.json_schema import check
from dtvit_edge.bundle.schema import THRESHOLDS as THRESHOLDS
from dtvit_edge.bundle.schema import THRESHOLDS_SCHEMA, THRESHOLDS_VERSION
from dtvit_edge.bundle.signature import remove_signature
from dtvit_edge.bundle.strict_json import strict_json
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.files import disk_fault, read_regular, write_atomically

NOT_TUNED = "not tuned"
_MOST_BYTES = 1 << 23


@dataclass(frozen=True)
class Threshold:
    """The probability at or above which a haemorrhage counts as found, and where the value comes from."""

    value: float = 0.5
    source: str = NOT_TUNED

    def __post_init__(self) -> None:
        if not 0 < self.value < 1:
            raise ConfigError(f"the threshold is {self.value}, expected a number between 0 and 1")


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of one bundle.

    Attributes:
        slice, study: of the haemorrhage probability of one slice, and of a study.
        temperature: fitted to the logits, recorded and not applied; None where nobody fitted one.
        evidence: what the values were tuned on; None where they are not tuned.
    """

    slice: Threshold = Threshold()
    study: Threshold = Threshold()
    temperature: float | None = None
    evidence: dict[str, Any] | None = None

    @property
    def values(self) -> dict[str, float]:
        """The thresholds alone, by level."""
        return {"slice": self.slice.value, "study": self.study.value}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def thresholds_bytes(folder: Path) -> bytes | None:
    """What the file beside a manifest holds, None where there is no file.

    Raises:
        BundleError: it is not readable.
    """
    path = folder / THRESHOLDS
    try:
        return read_regular(path, _MOST_BYTES, within=folder)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise BundleError(f"{path}: not readable: a link that leads nowhere") from None
        return None
    except OSError as error:
        raise BundleError(f"{path}: not readable: {error.strerror}") from error


def read_thresholds(folder: Path, raw: bytes | None, manifest_digest: str) -> Thresholds:
    """The thresholds beside a manifest; the defaults where there is no file.

    Args:
        raw: what `thresholds_bytes` gave.

    Raises:
        BundleError: the file is damaged, or was made for another manifest.
    """
    if raw is None:
        return Thresholds()
    path = folder / THRESHOLDS
    try:
        data = strict_json(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON as it has to be: {error}") from error
    check(data, THRESHOLDS_SCHEMA, f"thresholds of a bundle ({path})")
    if data["manifest"] != manifest_digest:
        raise BundleError(
            f"{path}: made for the manifest {data['manifest'][:12]}…, this one is {manifest_digest[:12]}…; tune the "
            "threshold again, or delete the file to go back to 0.5"
        )
    return Thresholds(Threshold(**data["slice"]), Threshold(**data["study"]), data["temperature"], data["evidence"])


def write_thresholds(folder: Path, manifest_digest: str, thresholds: Thresholds) -> None:
    """Put thresholds beside a manifest, in one step; a signature of other ones is removed before."""
    remove_signature(folder)
    data = {"format": THRESHOLDS_VERSION, "manifest": manifest_digest, **thresholds.to_dict()}
    write_atomically(folder / THRESHOLDS, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def remove_thresholds(folder: Path) -> None:
    """Go back to 0.5, not tuned; a signature of other thresholds is removed before."""
    path = folder / THRESHOLDS
    if os.path.lexists(path):
        remove_signature(folder)
        try:
            path.unlink()
        except OSError as error:
            raise disk_fault(path, error) from error

"""`device-profile.json`: what `tune` measured on one machine, and the configuration that it chose there.

It lies beside the manifest and is no part of its digest. It only ever chooses among configurations that the manifest
calls faithful, so that it needs no signature; one of another machine, manifest, threshold or version is not used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dtvit_edge.bundle.json_schema import Json, array, check, choice, count, fields, mapping, number, or_null, text
from dtvit_edge.bundle.strict_json import strict_json
from dtvit_edge.bundle.verdicts import configuration_name
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.files import read_regular, write_atomically
from dtvit_edge.precisions import EXACTNESS

DEVICE_PROFILE = "device-profile.json"
PROFILE_VERSION = 1
_MOST_BYTES = 1 << 20
# Of threads or slices a batch: more would be a mistake, or meant to exhaust the machine.
_MOST = 4096

CONFIGURATION_SCHEMA: Json = fields(
    "A configuration of `score`.",
    {
        "backend": text("The backend."),
        "precision": choice("The precision of the model or engine.", *EXACTNESS),
        "hint": or_null(text("The inference precision that the backend is given; null is fp32.")),
        "threads": or_null(count("Threads of the backend; null leaves it to the backend.", maximum=_MOST)),
        "batch": count("Slices a batch.", maximum=_MOST),
    },
)
_MEASURED = fields(
    "A configuration that answered the golden slices rightly, and its time.",
    {
        "configuration": CONFIGURATION_SCHEMA,
        "ms": number("Milliseconds a slice, preprocessing included: the median over rounds.", exclusiveMinimum=0),
        "low_ms": number("The lower end of the median's 95 % interval.", minimum=0),
        "high_ms": number("The upper end of the median's 95 % interval.", minimum=0),
        "rounds": count("Rounds that were timed."),
        "deviation": number("The largest |logit difference| to the golden logits here.", minimum=0),
    },
)
PROFILE_SCHEMA: Json = fields(
    "What `device-profile.json` holds.",
    {
        "format": {"enum": [PROFILE_VERSION], "type": "integer", "description": "The version of this file's format."},
        "manifest": text("The digest of the manifest that it was made for.", pattern="^[0-9a-f]{64}$"),
        "thresholds": fields(
            "The thresholds at which flags were compared.",
            {"slice": number("Of a slice."), "study": number("Of a study.")},
        ),
        "machine": mapping("The machine: processor, cores, instruction sets, GPU.", text("A fact.")),
        "versions": mapping("Versions of the packages that the times depend on.", text("A version.")),
        "seconds": number("How long it measured.", minimum=0),
        "chosen": CONFIGURATION_SCHEMA | {"description": "What new output folders take."},
        "why": text("Why it was chosen."),
        "measured": array("Every configuration that was timed, the fastest first.", _MEASURED),
        "left_out": mapping("Configurations that were not candidates, and why.", text("Why.")),
    },
)


@dataclass(frozen=True)
class Configuration:
    """What decides how fast and how exact a run of `score` is; the fields are those of its options.

    Attributes:
        hint: None is fp32; threads: None leaves it to the backend.
    """

    backend: str
    precision: str
    hint: str | None
    threads: int | None
    batch: int

    @property
    def words(self) -> str:
        """For people: `openvino int8+bf16, 2 threads, batch 8`."""
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.backend} {configuration_name(self.precision, self.hint)}{threads}, batch {self.batch}"

    @property
    def exactness(self) -> tuple[int, bool]:
        """Lower is nearer to the reference's arithmetic."""
        return EXACTNESS.index(self.precision), self.hint not in (None, "f32")

    @classmethod
    def from_dict(cls, data: Any) -> Configuration:
        """Read one from outside.

        Raises:
            BundleError: it is none.
        """
        check(data, CONFIGURATION_SCHEMA, "a configuration")
        if 0 in (data["threads"], data["batch"]):
            raise BundleError("not a configuration: threads and batch are 1 or more")
        return cls(**data)


@dataclass(frozen=True)
class Measured:
    """A configuration's time a slice, in milliseconds.

    Attributes:
        ms: the median over rounds; low_ms, high_ms: its 95 % interval.
        deviation: largest |logit difference| to the golden logits.
    """

    configuration: Configuration
    ms: float
    low_ms: float
    high_ms: float
    rounds: int
    deviation: float


@dataclass(frozen=True)
class DeviceProfile:
    """What `tune` found; the fields are those of `PROFILE_SCHEMA`."""

    manifest: str
    thresholds: dict[str, float]
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float
    chosen: Configuration
    why: str
    measured: tuple[Measured, ...]
    left_out: dict[str, str]

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": PROFILE_VERSION, **asdict(self)}, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, raw: bytes) -> DeviceProfile:
        """Read and check a profile.

        Raises:
            BundleError: it is none.
        """
        try:
            data = strict_json(raw)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"not JSON as it has to be: {error}") from error
        check(data, PROFILE_SCHEMA, "a device profile")
        del data["format"]
        chosen = Configuration.from_dict(data["chosen"])
        measured = tuple(
            Measured(**entry | {"configuration": Configuration.from_dict(entry["configuration"])})
            for entry in data["measured"]
        )
        return cls(**data | {"chosen": chosen, "measured": measured})

    def differs_from(
        self,
        manifest: str,
        thresholds: Mapping[str, float],
        machine: Mapping[str, str],
        versions: Mapping[str, str],
    ) -> str:
        """What it was made for that is not so here and now, in words; empty where it holds."""
        if self.manifest != manifest:
            return f"it was made for the manifest {self.manifest[:12]}…, this one is {manifest[:12]}…"
        for name, before, now in (
            ("thresholds", self.thresholds, thresholds),
            ("machine", self.machine, machine),
            ("versions", self.versions, versions),
        ):
            for key in sorted({*before, *now}):
                if before.get(key) != now.get(key):
                    return f"it was made with other {name}: {key} was {before.get(key)}, is {now.get(key)}"
        return ""


def read_profile(folder: Path) -> DeviceProfile | None:
    """The profile beside a manifest, None where there is none.

    Raises:
        BundleError: it is damaged, or not readable.
    """
    path = folder / DEVICE_PROFILE
    try:
        return DeviceProfile.from_json(read_regular(path, _MOST_BYTES, within=folder))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{path}: not readable: {error.strerror}") from error
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def require_writable(folder: Path) -> None:
    """Refuse a bundle that no profile can be put into, before a minute is spent on measuring.

    Raises:
        ConfigError: it cannot be written.
    """
    if not os.access(folder, os.W_OK):
        raise ConfigError(
            f"{folder} cannot be written, so that its device profile has no place; copy the bundle to where it can be, "
            "or --dry-run shows what would be chosen"
        )


def write_profile(folder: Path, profile: DeviceProfile) -> Path:
    """Put a profile beside a manifest, in one step; returns where it lies.

    Raises:
        DiskFault: it cannot be written.
    """
    path = folder / DEVICE_PROFILE
    write_atomically(path, profile.to_json())
    return path

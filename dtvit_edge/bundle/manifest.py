"""`manifest.json`: what a bundle says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dtvit_edge.bundle.json_schema import check
from dtvit_edge.bundle.schema import FORMAT_VERSION, MANIFEST_SCHEMA, UNTRAINED, expected_labels
from dtvit_edge.bundle.strict_json import strict_json
from dtvit_edge.errors import BundleError, ConfigError, DigestMismatch, UnknownFormat
from dtvit_edge.spec import LOCATION_HEAD, PixelEncoding, PreprocessSpec, digest_json

MANIFEST = "manifest.json"
REFUSED = "refused"  # in `parity`, of a file that export left out: why


@dataclass(frozen=True)
class FileRecord:
    """One file of a bundle. `facts` is the graph's (opset, operators, Q/DQ), empty for other files."""

    file: str
    sha256: str
    bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldenSlice:
    """What a golden slice's stored pixels are: a matrix in an encoding."""

    rows: int
    columns: int
    encoding: PixelEncoding


@dataclass(frozen=True)
class Reference:
    """The golden logits' origin: PyTorch in float64.

    Attributes:
        rounding: the largest |logit difference| of its own float32 to float64.
        spread: by output, the largest standard deviation of a logit between golden slices.
    """

    rounding: float
    spread: dict[str, float]


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds; `schema` describes every field. Plain JSON types except the spec and the slices."""

    name: str
    encoder: str
    training: str
    spec: PreprocessSpec
    models: dict[str, FileRecord]
    golden: dict[str, FileRecord]
    golden_slices: tuple[GoldenSlice, ...]
    reference: Reference
    tolerances: dict[str, float]
    parity: dict[str, Any]
    weights_sha256: str
    versions: dict[str, str]
    heads: dict[str, list[str]] = field(default_factory=dict)
    imported: dict[str, Any] | None = None
    proof: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None
    untrained_heads: tuple[str, ...] = ()

    @property
    def golden_digest(self) -> str:
        """One digest for all golden files: what an engine was proved on."""
        return digest_json({path: record.sha256 for path, record in self.golden.items()})

    @property
    def refusals(self) -> dict[str, str]:
        """Why export left a file out, by precision; empty where it wrote all of them."""
        return {precision: entry[REFUSED] for precision, entry in self.parity.items() if REFUSED in entry}

    def to_json(self) -> str:
        """The manifest's text; keys are sorted so that equal manifests are equal bytes."""
        data = asdict(self)
        slices = data.pop("golden_slices")
        data |= {
            "format": FORMAT_VERSION,
            "labels": expected_labels(),
            "spec": self.spec.to_dict(),
            "spec_digest": self.spec.digest,
            "golden": {"files": data["golden"], "slices": slices},
        }
        plain = json.loads(json.dumps(data, allow_nan=False))
        return json.dumps(plain | {"checksum": digest_json(plain)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: bytes | str) -> Manifest:
        """Read and check a manifest.

        Raises:
            UnknownFormat: another version of the format; with what makes the bundle anew.
            DigestMismatch: it was damaged, or its spec is not the one that it names.
            BundleError: anything unknown, missing or contradictory.
        """
        data = _json(text)
        _check_version(data)
        check(data, MANIFEST_SCHEMA, "a manifest of a bundle")
        if digest_json({key: value for key, value in data.items() if key != "checksum"}) != data["checksum"]:
            raise DigestMismatch("its checksum is not that of its content: it was damaged or edited")
        if data["labels"] != expected_labels():
            raise BundleError(f"labels are {data['labels']}; this code knows {expected_labels()}")
        untrained = tuple(data["untrained_heads"])
        if untrained not in UNTRAINED:
            raise BundleError(f"untrained heads are {list(untrained)}; only {LOCATION_HEAD!r} can be one")
        try:
            spec = PreprocessSpec.from_dict(data["spec"])
            slices = tuple(_golden_slice(entry) for entry in data["golden"]["slices"])
        except ConfigError as error:
            raise BundleError(f"not a manifest of a bundle: {error}") from error
        # Of the spec as it is written: one from before a field was added is read with its default.
        written = digest_json(data["spec"])
        if written != data["spec_digest"]:
            raise DigestMismatch(f"spec digest is {written[:12]}…, the manifest names {data['spec_digest'][:12]}…")
        kept = {"name", "encoder", "training", "tolerances", "parity", "weights_sha256", "versions", "heads"}
        kept |= {"imported", "proof", "calibration", "profile"}
        return cls(
            **{key: data[key] for key in kept},
            spec=spec,
            models=_records(data["models"]),
            golden=_records(data["golden"]["files"]),
            golden_slices=slices,
            reference=Reference(**data["reference"]),
            untrained_heads=untrained,
        )


def _json(text: bytes | str) -> Any:
    try:
        return strict_json(text)
    except UnicodeError as error:
        raise BundleError("not a manifest of a bundle: not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"not a manifest of a bundle: not JSON as it has to be: {error}") from error


def _check_version(data: Any) -> None:
    version = data.get("format") if isinstance(data, dict) else None
    if version is None:
        raise BundleError("not a manifest of a bundle: it names no format")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UnknownFormat(
            f"format version {version!r}, this code reads {FORMAT_VERSION}; make the bundle anew from its weights: "
            "dtvit-edge export WEIGHTS -o NAME.dtvit"
        )


def _golden_slice(data: Mapping[str, Any]) -> GoldenSlice:
    encoding = data["encoding"]
    padding = encoding["padding"]
    fields = encoding | {"padding": None if padding is None else (padding[0], padding[1])}
    return GoldenSlice(data["rows"], data["columns"], PixelEncoding(**fields))


def _records(data: Mapping[str, Any]) -> dict[str, FileRecord]:
    return {key: FileRecord(**record) for key, record in data.items()}

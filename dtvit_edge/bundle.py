"""The bundle: a directory `NAME.dtvit/` with a manifest, ONNX files and golden slices.

Every file is named in `manifest.json` with its sha256. `Bundle.open` checks all of them before anything is loaded;
`Bundle.model_bytes` hands out bytes whose digest it has just checked, so that what reaches an engine is what was
verified. Digests find damage; an expected manifest digest (`--expect-digest`) finds tampering.

A copy on a device may be thin: without ONNX files that the device does not need. The manifest names them all the same,
so that the bundle's identity stays, and `Bundle.absent` says which are not there. Whatever is there has its digest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dtvit_edge.errors import BundleError, ConfigError, DigestMismatch, UnknownFormat
from dtvit_edge.spec import (
    HEAD_LABELS,
    LOCATION_HEAD,
    OUTPUT_NAMES,
    TRAINING_STATES,
    PreprocessSpec,
    digest_bytes,
    digest_file,
)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SUFFIX = ".dtvit"
REFERENCE_PRECISION = "fp32"

# Files by precision; the runtime and export both take names from here.
MODEL_FILES = {
    "fp32": "model.fp32.onnx",
    "fp32-op16": "model.fp32-op16.onnx",  # TensorRT 8.5
    "fp16": "model.fp16.onnx",  # typed: TensorRT 10 and newer, TensorRT for RTX
    "int8": "model.int8.onnx",  # FP32 scales: CPU backends, TensorRT 8.6 to 10 with flags
    "int8-fp16": "model.int8-fp16.onnx",  # typed, FP16 scales: TensorRT 10 and newer, TensorRT for RTX
}
ENGINES = "engines"  # what a device builds; the manifest does not name it
GOLDEN_PIXELS = "golden/pixels.npy"
GOLDEN_LOGITS = {name: f"golden/{name}.npy" for name in OUTPUT_NAMES}

# Largest |logit difference| to the golden fp32 logits that a backend may show. Exports of ViT-B/16 and ViT-Tiny/16
# measured at most 3e-6 between PyTorch, ONNX Runtime and OpenVINO; the contract is 1e-5, refused above.
TOLERANCES = {"fp32": 1e-5, "fp32-op16": 1e-5}
# The same for reduced precision, as a share of the standard deviation of the golden logits, since an error is large or
# small against what tells slices apart. Untrained ViT-Tiny measured 0.025 in float16, a trained ViT below 0.001.
RELATIVE_TOLERANCES = {"fp16": 0.05}

# Said of every model file that a thin copy lacks.
NOT_HERE = "not in this copy of the bundle; to be copied from the workstation's"


@dataclass(frozen=True)
class FileRecord:
    """One file of a bundle. `facts` is the graph's (opset, operators, Q/DQ), empty for other files."""

    file: str
    sha256: str
    bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds; plain JSON types except the spec.

    Attributes:
        thresholds: {"ich": {"value": 0.5, "source": "not tuned"}}.
        tolerances: largest |logit difference| to the golden logits, by precision.
        models: by precision; golden: by path.
        parity: what export measured against PyTorch; calibration: None until `calibrate` has run.
        weights_sha256: digest of the checkpoint file that was exported.
        versions: of the packages that made the bundle.
        untrained_heads: heads that were never trained in a model that otherwise was; what they say is left empty.
    """

    name: str
    encoder: str
    training: str
    spec: PreprocessSpec
    models: dict[str, FileRecord]
    golden: dict[str, FileRecord]
    parity: dict[str, Any]
    weights_sha256: str
    versions: dict[str, str]
    thresholds: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"ich": {"value": 0.5, "source": "not tuned"}}
    )
    tolerances: dict[str, float] = field(default_factory=lambda: dict(TOLERANCES))
    calibration: dict[str, Any] | None = None
    untrained_heads: tuple[str, ...] = ()
    format: int = FORMAT_VERSION

    @property
    def ich_threshold(self) -> float:
        """Probability at or above which a slice, series or study counts as positive."""
        return float(self.thresholds["ich"]["value"])

    def to_json(self) -> str:
        """The manifest's text; keys are sorted so that equal manifests are equal bytes."""
        data = asdict(self) | {
            "spec": self.spec.to_dict(),
            "spec_digest": self.spec.digest,
            "labels": HEAD_LABELS,
        }
        if not self.untrained_heads:
            # Absent where empty: code from before the field reads those bundles, and refuses one that has it, as it
            # does any unknown field, instead of printing the locations.
            del data["untrained_heads"]
        return json.dumps(data, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check a manifest; anything unknown, missing or contradictory is a BundleError."""
        try:
            data = json.loads(text)
            version = data.pop("format")
            if version != FORMAT_VERSION:
                raise UnknownFormat(f"format version {version!r}, this code reads {FORMAT_VERSION}")
            labels, spec_digest = data.pop("labels"), data.pop("spec_digest")
            spec = PreprocessSpec.from_dict(data.pop("spec"))
            records: dict[str, Any] = {
                kind: {key: FileRecord(**record) for key, record in data.pop(kind).items()}
                for kind in ("models", "golden")
            }
            untrained = tuple(data.pop("untrained_heads", ()))
            manifest = cls(**data, **records, spec=spec, untrained_heads=untrained, format=version)
            threshold = manifest.ich_threshold
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise BundleError(f"not a manifest of a bundle: {type(error).__name__}: {error}") from error
        if spec.digest != spec_digest:
            raise DigestMismatch(f"spec digest is {spec.digest[:12]}…, the manifest names {spec_digest[:12]}…")
        if labels != {head: list(names) for head, names in HEAD_LABELS.items()}:
            raise BundleError(f"labels are {labels}; this code knows {HEAD_LABELS}")
        if manifest.training not in TRAINING_STATES:
            raise BundleError(f"training is {manifest.training!r}, expected one of {', '.join(TRAINING_STATES)}")
        if untrained not in ((), (LOCATION_HEAD,)):
            raise BundleError(f"untrained heads are {list(untrained)}; only {LOCATION_HEAD!r} can be one")
        if not 0 < threshold < 1:
            raise BundleError(f"the threshold for ich is {threshold}, expected a number between 0 and 1")
        return manifest


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: what was there had the bytes that the manifest names.

    Attributes:
        digest: sha256 of `manifest.json`, which names every other file's: the bundle's identity.
        absent: models of the manifest whose files were not in this copy when it was opened, by precision; sorted.
    """

    path: Path
    manifest: Manifest
    digest: str
    absent: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, expect_digest: str | None = None) -> Bundle:
        """Open a bundle, checking the digest of every file that is there.

        Model files may be absent, golden files may not.

        Raises:
            BundleError: no bundle, a missing golden file, neither a model nor an engine, a manifest that contradicts
                itself.
            DigestMismatch: a changed byte, or another manifest than `expect_digest` names.
            UnknownFormat: a format version that this code does not read.
        """
        path = Path(path)
        try:
            raw = (path / MANIFEST).read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: no bundle here ({MANIFEST}: {error.strerror})") from error
        digest = digest_bytes(raw)
        if expect_digest is not None and digest != expect_digest.lower():
            raise DigestMismatch(f"{path}: digest is {digest}, expected {expect_digest}")
        try:
            manifest = Manifest.from_json(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BundleError(f"{path / MANIFEST}: not UTF-8 text") from error
        except BundleError as error:
            raise type(error)(f"{path / MANIFEST}: {error}") from error
        bundle = cls(path, manifest, digest)
        absent = []
        for precision, record in manifest.models.items():
            # A dangling link is damage, not a file that was left out.
            if os.path.lexists(bundle._path(record)):
                bundle._check(record)
            else:
                absent.append(precision)
        for record in manifest.golden.values():
            bundle._check(record)
        if len(absent) == len(manifest.models) and not any((path / ENGINES).glob("*.plan")):
            raise BundleError(
                f"{path}: neither a model nor an engine is in this copy of the bundle; on the workstation, "
                "`dtvit-edge inspect NAME.dtvit --device-files TARGET` lists what a device needs"
            )
        return replace(bundle, absent=tuple(sorted(absent)))

    @property
    def present(self) -> tuple[str, ...]:
        """Models whose files were in this copy when it was opened, by precision; sorted."""
        return tuple(sorted(set(self.manifest.models) - set(self.absent)))

    @property
    def absent_files(self) -> tuple[str, ...]:
        """The files of `absent`, in its order."""
        return tuple(self.manifest.models[precision].file for precision in self.absent)

    @property
    def absence(self) -> str:
        """What this copy lacks, in words; empty where it is whole."""
        return f"{', '.join(self.absent_files)}: {NOT_HERE}" if self.absent else ""

    def require_whole(self) -> None:
        """Refuse a thin copy, for what needs every model.

        Raises:
            BundleError: with the files that are not there.
        """
        if self.absent:
            raise BundleError(f"{self.path}: the whole bundle is needed; {self.absence}")

    def model_path(self, precision: str) -> Path:
        """Where the ONNX file of a precision lies; who reads it checks its digest.

        Raises:
            BundleError: the bundle has no such model, or this copy lacks its file.
        """
        record = self.manifest.models.get(precision)
        if record is None:
            have = ", ".join(sorted(self.manifest.models))
            raise BundleError(f"{self.path}: no {precision} model in this bundle (it has {have})")
        path = self._path(record)
        if not path.is_file():
            have = ", ".join(self.present) or "engines alone"
            raise BundleError(f"{path}: {NOT_HERE} (this copy has {have})")
        return path

    def model_bytes(self, precision: str) -> bytes:
        """The ONNX file of a precision; its digest is checked on the very bytes that are returned.

        Raises:
            BundleError: as `model_path`.
            DigestMismatch: the bytes are not the ones that the manifest names.
        """
        path = self.model_path(precision)
        data = path.read_bytes()
        _compare(path, digest_bytes(data), self.manifest.models[precision])
        return data

    def golden(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Golden slices: pixels (N, C, H, W) uint8 and the reference's fp32 logits by output name."""
        arrays = {
            name: np.load(self._path(self.manifest.golden[name]), allow_pickle=False)
            for name in (GOLDEN_PIXELS, *GOLDEN_LOGITS.values())
        }
        return arrays[GOLDEN_PIXELS], {name: arrays[file] for name, file in GOLDEN_LOGITS.items()}

    def _check(self, record: FileRecord) -> None:
        """A file that has to be there, against its digest."""
        path = self._path(record)
        if not path.is_file():
            raise BundleError(f"{path}: named in the manifest, but missing")
        try:
            digest = digest_file(path)
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}") from error
        _compare(path, digest, record)

    def _path(self, record: FileRecord) -> Path:
        """A record's path inside the bundle; one that leads outside is refused."""
        parts = PurePosixPath(record.file)
        if parts.is_absolute() or ".." in parts.parts:
            raise BundleError(f"{self.path}: the manifest names a file outside the bundle: {record.file}")
        return self.path / parts


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes], *, overwrite: bool = False) -> Bundle:
    """Write a bundle in one step: all of it appears under `path`, or nothing does.

    Args:
        path: the directory `NAME.dtvit`.
        manifest: its `models` and `golden` records must name exactly the keys of `files`; their digests and
            sizes are filled in here, from the bytes that are written.
        files: relative path -> bytes.

    Raises:
        ConfigError: something is there already and `overwrite` is off.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; give another name or --overwrite")
    if path.exists() and not (path / MANIFEST).is_file():
        raise ConfigError(f"{path} is not a bundle; it is not overwritten")

    def filled(records: dict[str, FileRecord]) -> dict[str, FileRecord]:
        return {
            key: replace(r, sha256=digest_bytes(files[r.file]), bytes=len(files[r.file])) for key, r in records.items()
        }

    manifest = replace(manifest, models=filled(manifest.models), golden=filled(manifest.golden))
    named = {r.file for r in (*manifest.models.values(), *manifest.golden.values())}
    if named != set(files):
        raise BundleError(f"files and manifest differ: {', '.join(sorted(named ^ set(files)))}")
    staging = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for name, data in files.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        staging.rename(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Bundle.open(path)


def _compare(path: Path, digest: str, record: FileRecord) -> None:
    if digest != record.sha256:
        raise DigestMismatch(f"{path}: sha256 is {digest[:12]}…, the manifest names {record.sha256[:12]}…")

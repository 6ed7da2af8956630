"""An opened bundle: a directory `NAME.dtvit/` with a manifest, ONNX files and golden slices.

Every file is named in `manifest.json` with its sha256. Opening reads the manifest alone; a file is hashed when it is
handed out, on the very bytes that are handed out, so that what reaches an engine is what was verified. `check_files`
hashes them all (`verify`, `inspect`). Digests find damage; an expected manifest digest (`--expect-digest`) or a
signature by a trusted key (`--trust`) finds tampering. A file is read only if it is a regular one inside the bundle and
as long as the manifest says, a graph only if it holds what `graph_scan` lets pass.

A copy on a device may be thin: without ONNX files that the device does not need. The manifest names them all the same,
so that the bundle's identity stays, and `Bundle.absent` says which are not there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dtvit_edge.bundle.golden import GOLDEN_FILES, Golden
from dtvit_edge.bundle.graph_scan import check_graph
from dtvit_edge.bundle.manifest import MANIFEST, FileRecord, Manifest
from dtvit_edge.bundle.memory_copy import MemoryCopy
from dtvit_edge.bundle.signature import (
    SignatureState,
    Signed,
    Trust,
    require_signature,
    signature_state,
    trusted_keys,
)
from dtvit_edge.bundle.thresholds import Thresholds, read_thresholds, thresholds_bytes
from dtvit_edge.errors import BundleError, DigestMismatch
from dtvit_edge.files import read_regular
from dtvit_edge.precisions import MODEL_FILES
from dtvit_edge.spec import digest_bytes

SUFFIX = ".dtvit"
ENGINES = "engines"  # what a device builds; the manifest does not name it
BUILT_SUFFIXES = (".plan", ".blob")  # of an engine of TensorRT, of a compiled model of OpenVINO

MOST_MANIFEST_BYTES = 1 << 23  # of a manifest; that of a calibrated ViT-B/16 has a few hundred kilobytes

# Said of every model file that a thin copy lacks.
NOT_HERE = "not in this copy of the bundle; to be copied from the workstation's"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        digest: sha256 of `manifest.json`, which names every other file's: the bundle's identity.
        absent: models of the manifest whose files were not in this copy when it was opened, by precision; sorted.
        thresholds: what lies beside the manifest, else 0.5; thresholds_digest: of that file, None where there is none
            or it was not read.
        signer: the fingerprint of the trusted key that signed it; None where no key was given.
        accepted_engines: digests of plans that somebody trusts, who did not build them on this device.
    """

    path: Path
    manifest: Manifest
    digest: str
    absent: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    accepted_engines: frozenset[str] = frozenset()
    thresholds_digest: str | None = None
    signer: str | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        expect_digest: str | None = None,
        ignore_thresholds: bool = False,
        accept_engines: Collection[str] = (),
        trust: Trust | None = None,
    ) -> Bundle:
        """Open a bundle: its manifest and thresholds are read and checked, no other file is.

        Model files may be absent, golden files may not.

        Args:
            accept_engines: digests of plans from elsewhere that may run; whoever gives one trusts the plan.
            ignore_thresholds: take no thresholds from `thresholds.json`, for what writes it anew.
            trust: a file of public keys, or several: one of them has to have signed the bundle as it is, its
                thresholds or their absence included. None asks for no signature, and an empty list refuses all.

        Raises:
            SignatureError: no trusted key has signed this bundle.
            ConfigError, MissingDependency: a key that is none, or `cryptography` is not here.
            BundleError: no bundle, a missing golden file, neither a model nor an engine, a manifest that contradicts
                itself, thresholds of another manifest.
            DigestMismatch: a damaged manifest, or another than `expect_digest` names.
            UnknownFormat: a format version that this code does not read.
        """
        path = Path(path)
        try:
            raw = read_regular(path / MANIFEST, MOST_MANIFEST_BYTES, within=path)
        except OSError as error:
            raise BundleError(f"{path}: no bundle here ({MANIFEST}: {error.strerror})") from error
        digest = digest_bytes(raw)
        if expect_digest is not None and digest != expect_digest.lower():
            raise DigestMismatch(f"{path}: digest is {digest}, expected {expect_digest}")
        unread = ignore_thresholds and trust is None  # they may be damaged, which is what is to be mended
        beside = None if unread else thresholds_bytes(path)
        signed = Signed(digest, None if beside is None else digest_bytes(beside))
        # Before anything of it is parsed.
        signer = None if trust is None else require_signature(path, signed, trusted_keys(trust))
        try:
            manifest = Manifest.from_json(raw)
        except BundleError as error:
            raise type(error)(f"{path / MANIFEST}: {error}") from error
        thresholds = Thresholds() if ignore_thresholds else read_thresholds(path, beside, digest)
        _check_names(path / MANIFEST, manifest)
        bundle = cls(path, manifest, digest)
        # A dangling link is damage, not a file that was left out.
        absent = [name for name, record in manifest.models.items() if not os.path.lexists(path / record.file)]
        for record in (*manifest.golden.values(), *(r for name, r in manifest.models.items() if name not in absent)):
            bundle._require(record)
        built = (file for suffix in BUILT_SUFFIXES for file in (path / ENGINES).glob(f"*{suffix}"))
        if len(absent) == len(manifest.models) and not any(built):
            raise BundleError(
                f"{path}: neither a model nor an engine is in this copy of the bundle; on the workstation, "
                "`dtvit-edge inspect NAME.dtvit --device-files TARGET` lists what a device needs"
            )
        accepted = frozenset(accepted.lower() for accepted in accept_engines)
        return cls(path, manifest, digest, tuple(sorted(absent)), thresholds, accepted, signed.thresholds, signer)

    @property
    def signed(self) -> Signed:
        """What a signature of this bundle is of."""
        return Signed(self.digest, self.thresholds_digest)

    def signature_state(self) -> SignatureState:
        """What is known of its signature, in words; nothing is refused."""
        return signature_state(self.path, self.signed, self.signer)

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
        path = self.path / record.file
        if not path.is_file():
            have = ", ".join(self.present) or "engines alone"
            raise BundleError(f"{path}: {NOT_HERE} (this copy has {have})")
        return path

    def model_bytes(self, precision: str) -> bytes:
        """The ONNX file of a precision; digest and content are checked on the very bytes that are returned.

        Raises:
            BundleError: as `model_path`; or a graph of other than standard operators.
            DigestMismatch: the bytes are not the ones that the manifest names.
        """
        path = self.model_path(precision)
        data = self._read(path, self.manifest.models[precision])
        check_graph(data, str(path))
        return data

    def model_copy(self, precision: str) -> MemoryCopy:
        """As `model_bytes`, for who hands them to a library at once: the caller closes it.

        Raises:
            BundleError, DigestMismatch: as `model_bytes`.
        """
        path, record = self.model_path(precision), self.manifest.models[precision]
        with _readable(path, record):
            copy = MemoryCopy.of_file(path, record.bytes, within=self.path)
        try:
            _require_digest(path, copy.sha256, record)
            check_graph(copy.memory, str(path))
        except BaseException:
            copy.close()
            raise
        return copy

    def golden(self) -> Golden:
        """The golden slices; their digests are checked on the very bytes that are read.

        Raises:
            BundleError: a file is missing, or no array as the manifest says.
            DigestMismatch: the bytes are not the ones that the manifest names.
        """
        spec = self.manifest.spec
        files = {name: self.file_bytes(self.manifest.golden[name]) for name in GOLDEN_FILES}
        return Golden.from_files(files, self.manifest.golden_slices, (spec.channels, spec.crop, spec.crop))

    def file_bytes(self, record: FileRecord) -> bytes:
        """A file that has to be there, its digest checked on the very bytes that are returned.

        Raises:
            BundleError, DigestMismatch: it is missing, or has other bytes.
        """
        return self._read(self._require(record), record)

    def check_files(self) -> int:
        """Read and check every file that is in this copy.

        Returns:
            How many there are.

        Raises:
            BundleError, DigestMismatch: one is missing, has other bytes, or holds what no bundle has.
        """
        self.golden()
        for precision in self.present:
            self.model_bytes(precision)
        return len(self.manifest.golden) + len(self.present)

    def _read(self, path: Path, record: FileRecord) -> bytes:
        """The bytes of a file, if they are the manifest's."""
        with _readable(path, record):
            data = read_regular(path, record.bytes, within=self.path)
        _require_digest(path, digest_bytes(data), record)
        return data

    def _require(self, record: FileRecord) -> Path:
        """Where a file lies that has to be there."""
        path = self.path / record.file
        if not path.is_file():
            raise BundleError(f"{path}: named in the manifest, but missing")
        return path


@contextmanager
def _readable(path: Path, record: FileRecord) -> Iterator[None]:
    """While a file is read: one of another size is not begun, and what the disk says becomes a BundleError."""
    try:
        size = path.stat().st_size
        if path.is_file() and size != record.bytes:  # before it is read: it may be as large as a disk
            raise DigestMismatch(f"{path}: it has {size} bytes, the manifest names {record.bytes}")
        yield
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error


def _require_digest(path: Path, digest: str, record: FileRecord) -> None:
    if digest != record.sha256:
        raise DigestMismatch(f"{path}: sha256 is {digest[:12]}…, the manifest names {record.sha256[:12]}…")


def _check_names(path: Path, manifest: Manifest) -> None:
    """Every file has the one name that it has in any bundle, and every model a tolerance."""
    named = {record.file for record in (*manifest.models.values(), *manifest.golden.values())}
    if odd := sorted(name for name in named if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts):
        raise BundleError(f"{path}: it names files outside the bundle: {odd}")
    models = {precision: record.file for precision, record in manifest.models.items()}
    wrong = sorted(models.items() - MODEL_FILES.items())
    golden = {key: record.file for key, record in manifest.golden.items()}
    wrong += sorted(golden.items() ^ dict(zip(GOLDEN_FILES, GOLDEN_FILES, strict=True)).items())
    if wrong:
        raise BundleError(f"{path}: files that no bundle has, or not all that it has to: {wrong}")
    if untold := sorted(set(manifest.models) - set(manifest.tolerances)):
        raise BundleError(f"{path}: it names no tolerance for {', '.join(untold)}")

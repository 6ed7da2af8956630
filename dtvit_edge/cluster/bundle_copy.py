"""A bundle as bytes, for machines that have it neither on a disk of their own nor on a share.

What travels is what the manifest names and a worker may open, each file's digest checked here and again where it
arrives; and engines that somebody accepted by their digest. What was compiled on this machine is of no use elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dtvit_edge.bundle import ENGINES, MANIFEST, Bundle
from dtvit_edge.errors import BundleError, DigestMismatch
from dtvit_edge.files import make_folder, read_regular, write_atomically
from dtvit_edge.scoring.options import AUTO
from dtvit_edge.spec import digest_bytes

_MOST_MANIFEST_BYTES = 1 << 26
_MOST_ENGINE_BYTES = 1 << 34


def packed_bundle(bundle: Bundle, precision: str = AUTO) -> dict[str, bytes]:
    """The files of a bundle by their paths in it.

    Args:
        precision: of the one model that is wanted; with `auto`, or where the bundle has no such model, all of them.

    Raises:
        BundleError, DigestMismatch: the bundle has changed since it was opened.
    """
    try:
        manifest = read_regular(bundle.path / MANIFEST, _MOST_MANIFEST_BYTES, within=bundle.path)
    except OSError as error:
        raise BundleError(f"{bundle.path / MANIFEST}: {error.strerror}") from error
    if digest_bytes(manifest) != bundle.digest:
        raise DigestMismatch(f"{bundle.path}: the bundle was changed while it was in use; run the command again")
    records = [*bundle.manifest.golden.values()]
    wanted = [precision] if precision in bundle.present else bundle.present
    records += [bundle.manifest.models[name] for name in wanted]
    files = {record.file: bundle.file_bytes(record) for record in records}
    return {MANIFEST: manifest} | files | _accepted_engines(bundle)


def write_copy(path: Path, files: Mapping[str, bytes]) -> None:
    """Lay the files of a bundle out at `path`, a new folder in one that is nobody else's.

    Raises:
        BundleError: a file would lie outside.
        ConfigError, DiskFault: it cannot be written.
    """
    for name, data in files.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise BundleError(f"a file of the bundle would lie outside it: {name}")
        make_folder((path / parts).parent)
        write_atomically(path / parts, data)


def _accepted_engines(bundle: Bundle) -> dict[str, bytes]:
    """Plans that were accepted, and their records."""
    files = {}
    if bundle.accepted_engines:
        from dtvit_edge.trt.store import accepted_files

        for path in accepted_files(bundle):
            try:
                files[f"{ENGINES}/{path.name}"] = read_regular(path, _MOST_ENGINE_BYTES, within=path.parent, owned=True)
            except OSError as error:
                raise BundleError(f"{path}: {error.strerror}") from error
    return files

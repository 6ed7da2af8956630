"""Writing a bundle: all of it appears in one step, or nothing does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dtvit_edge.bundle.bundle import ENGINES, MOST_MANIFEST_BYTES, Bundle
from dtvit_edge.bundle.graph_scan import check_graph
from dtvit_edge.bundle.leftovers import clear_leftovers, earlier_of, staging_of
from dtvit_edge.bundle.manifest import MANIFEST, FileRecord, Manifest
from dtvit_edge.bundle.signature import SIGNATURE, say_removed
from dtvit_edge.bundle.thresholds import Thresholds, read_thresholds, thresholds_bytes, write_thresholds
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.files import make_folder, read_regular, write_atomically
from dtvit_edge.precisions import REFERENCE_PRECISION
from dtvit_edge.spec import digest_bytes


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes], *, overwrite: bool = False) -> Bundle:
    """Write a bundle in one step: all of it appears under `path`, or nothing does.

    Where it takes the place of a bundle with the same fp32 model and spec, that one's engines and thresholds stay:
    calibrating another precision voids neither. Its signature goes.

    Args:
        path: the directory `NAME.dtvit`.
        manifest: its `models` and `golden` records must name exactly the keys of `files`; their digests and
            sizes are filled in here, from the bytes that are written.
        files: relative path -> bytes.

    Raises:
        ConfigError: something is there already and `overwrite` is off.
        BundleError: a graph holds what no bundle may.
    """
    if path.is_symlink():  # the link would be replaced, and the bundle behind it would lose its engines
        path = path.resolve()
    clear_leftovers(path)
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
    for record in manifest.models.values():
        check_graph(files[record.file], record.file)
    staging = staging_of(path)
    try:
        for name, data in files.items():
            target = staging / name
            make_folder(target.parent)
            write_atomically(target, data)
        write_atomically(staging / MANIFEST, manifest.to_json())
        earlier = earlier_of(path)
        if path.exists():
            path.rename(earlier)
        staging.rename(path)
        if earlier.exists():
            _carry_over(earlier, path, manifest)
            if os.path.lexists(earlier / SIGNATURE):
                say_removed(path)
            shutil.rmtree(earlier)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Bundle.open(path)


def _carry_over(earlier: Path, path: Path, manifest: Manifest) -> None:
    """Engines and thresholds of a bundle that was overwritten, if they are about the same model."""
    try:
        raw = read_regular(earlier / MANIFEST, MOST_MANIFEST_BYTES, within=earlier)
        before = Manifest.from_json(raw)
        thresholds = read_thresholds(earlier, thresholds_bytes(earlier), digest_bytes(raw))
    except (OSError, BundleError):
        return
    old, new = before.models.get(REFERENCE_PRECISION), manifest.models.get(REFERENCE_PRECISION)
    if old is None or new is None or old.sha256 != new.sha256 or before.spec != manifest.spec:
        return
    if (earlier / ENGINES).is_dir():
        (earlier / ENGINES).rename(path / ENGINES)
    if thresholds != Thresholds():
        write_thresholds(path, digest_bytes((path / MANIFEST).read_bytes()), thresholds)

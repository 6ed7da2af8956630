"""Engines in a bundle's `engines/`: a plan, its record, and the loader that hands out verified bytes.

A plan is executable code. `load_engine` returns one only where its record carries the code of this device's key
(`device_key`) or somebody accepted its digest, and neither file nor folder is others' to write. It checks the digest on
the very bytes that it returns, and refuses a plan of another library, version, GPU or graph before TensorRT sees it
(whose own words for that are opaque).

    engines/tensorrt-10.3.0-orin-sm87-fp16.json         the record, which names the plan: replacing it switches engines
    engines/tensorrt-10.3.0-orin-sm87-fp16.0b1f….plan   the plan, by its digest
    engines/tensorrt-10.3.0-orin-sm87.5c2e….9d40….timing
                                                        what the builder measured, for the next build: by its digest and
                                                        the code of that by this device's key
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dtvit_edge.bundle import ENGINES as ENGINES
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DigestMismatch, EngineError
from dtvit_edge.files import FILE_MODE, not_ours, read_regular
from dtvit_edge.spec import digest_bytes, digest_file
from dtvit_edge.trt import record_text
from dtvit_edge.trt.build_record import BuildRecord as BuildRecord
from dtvit_edge.trt.build_record import device_name as device_name
from dtvit_edge.trt.device_key import code_of, is_code_of, make_key, read_key
from dtvit_edge.trt.releases import TITLES
from dtvit_edge.trt.staging import place, require_ours

if TYPE_CHECKING:
    from dtvit_edge.cuda.driver import Gpu

ACCEPTED = "not built by this user on this device, but accepted by its digest"
_MOST_RECORD_BYTES = 1 << 24
Record = TypeVar("Record")
_MOST_PLAN_BYTES = 1 << 34
UNPROVEN = "compiled ahead of time, with no GPU to run it on: the device that loads it must test it first"


@dataclass(frozen=True)
class Engine:
    """A plan whose digest was checked on these very bytes, and its record."""

    record: BuildRecord
    plan: bytes = field(repr=False)

    @property
    def max_batch(self) -> int:
        """The largest batch of its profiles."""
        return self.record.max_batch

    @property
    def proven(self) -> bool:
        """It has had its self-test on such a device as this."""
        return self.record.selftest is not None


def load_engine(
    bundle: Bundle, flavour: str, version: str, gpu: Gpu, precision: str, *, unproven: bool = False
) -> Engine:
    """The engine of a precision for this library and GPU.

    Args:
        version: as the library writes it.
        unproven: take an engine that has had no self-test; the caller runs one before it answers anything.

    Raises:
        EngineError: there is none, or only for another version, GPU or graph; with the command that builds it.
        DigestMismatch: the plan's bytes are not the record's.
    """
    require_ours(bundle.path / ENGINES)
    why_not, max_batch = [], None
    for path, record in _records(bundle):
        if isinstance(record, EngineError):
            why_not.append(f"{path.name}: {record}")
            continue
        if (record.flavour, record.precision) != (flavour, precision):
            continue
        max_batch = record.max_batch
        refusal = _refusal(bundle, record, version, gpu)
        if refusal is None and not record_text.is_built_here(record, record.mac):
            if record.plan_sha256 in bundle.accepted_engines:
                record = replace(record, selftest=None, selftest_reason=ACCEPTED)
            else:
                refusal = f"not built by this user on this device; --accept-engine {record.plan_sha256} trusts it"
        if refusal is None and record.selftest is None and not unproven:
            refusal = f"it has had no self-test ({record.selftest_reason})"
        if refusal is None:
            again = build_command(bundle.path, precision, flavour, max_batch=max_batch)
            return Engine(record, _verified(path.with_name(record.plan), record, again))
        why_not.append(f"{path.name}: {refusal}")
    there = ", ".join(path.stem for path, _ in _records(bundle)) or "none"
    none_fits = f"no {precision} engine for {TITLES[flavour]} in {bundle.path} (engines there: {there})"
    again = build_command(bundle.path, precision, flavour, max_batch=max_batch)
    raise EngineError("; ".join([none_fits, *why_not, f"build it on this device: {again}"]))


def engine_precisions(bundle: Bundle, flavour: str) -> list[str]:
    """Precisions of a library's engines in a bundle, whether they fit this device or not."""
    records = (record for _, record in _records(bundle) if isinstance(record, BuildRecord))
    return sorted({record.precision for record in records if record.flavour == flavour})


def trusted_engines(bundle: Bundle, flavour: str) -> list[Engine]:
    """Engines of a library that were built on this device, or whose digest somebody accepted, whatever device is here.

    Raises:
        EngineError, DigestMismatch: a plan's bytes are not its record's.
    """
    engines = []
    for path, record in _records(bundle):
        if not isinstance(record, BuildRecord) or record.flavour != flavour or is_foreign(bundle, record.graph, record):
            continue
        if record_text.is_built_here(record, record.mac) or record.plan_sha256 in bundle.accepted_engines:
            again = build_command(bundle.path, record.precision, flavour, max_batch=record.max_batch)
            engines.append(Engine(record, _verified(path.with_name(record.plan), record, again)))
    return engines


def accepted_files(bundle: Bundle) -> list[Path]:
    """Plans whose digest somebody accepted, and their records, for who takes them to other devices."""
    found = [(path, record) for path, record in _records(bundle) if isinstance(record, BuildRecord)]
    wanted = [(path, record) for path, record in found if record.plan_sha256 in bundle.accepted_engines]
    return [file for path, record in wanted for file in (path, path.with_name(record.plan))]


def portable_engines(bundle: Bundle, flavour: str, capabilities: Collection[str]) -> list[tuple[Path, BuildRecord]]:
    """Engines compiled ahead of time, for one of these compute capabilities at least, from the bundle's own graphs.

    Returns:
        Where each record lies, its plan beside it, and the record.

    Raises:
        EngineError: a record that cannot be read, or no plan beside it.
        DigestMismatch: a plan's bytes are not its record's.
    """
    engines = []
    for path, record in _records(bundle):
        if isinstance(record, EngineError):
            raise EngineError(f"{path}: {record}")
        elsewhere = set(capabilities).isdisjoint(record.capabilities) or is_foreign(bundle, record.graph, record)
        if record.flavour == flavour and record.gpu is None and not elsewhere:
            again = build_command(bundle.path, record.precision, flavour, capabilities=record.capabilities)
            _verified(path.with_name(record.plan), record, again)
            engines.append((path, record))
    return engines


def build_command(
    path: Path,
    precision: str,
    flavour: str,
    *,
    max_batch: int | None = None,
    capabilities: Sequence[str] = (),
) -> str:
    """The line that builds an engine; `capabilities` make it ahead of time."""
    words = ["dtvit-edge", "build", str(path), "--precision", precision, "--backend", flavour]
    if max_batch is not None:
        words += ["--max-batch", str(max_batch)]
    if capabilities:
        words += ["--ahead-of-time", *(word for sm in capabilities for word in ("--sm", sm))]
    return shlex.join(words)


def install(folder: Path, record: BuildRecord, plan: Path) -> BuildRecord:
    """Move a plan into the folder under its digest and replace the record; older plans of that name go.

    A reader sees the old engine or the new one, whole. Nobody else may write any of it, whatever the umask says.

    Returns:
        The record as it was written, with the code by this device's key.

    Raises:
        ConfigError, EngineError: there is no such key, and none can be made.
    """
    record = replace(record, plan=f"{record.name}.{record.plan_sha256[:12]}.plan")
    record = replace(record, mac=record_text.code(record))
    place(plan, folder / record.plan, f"{record.name}.*.plan", folder / f"{record.name}.json", record.to_json())
    return record


def find_cache(folder: Path, device: str) -> tuple[Path, str] | None:
    """The newest timing cache that this device measured itself, and the sha256 that its name carries.

    TensorRT parses it: one that came with a bundle is passed over, as an engine is refused.
    """
    key = read_key()
    if key is None:
        return None
    found = []
    for path in folder.glob(f"{device}.*.timing"):
        *_, digest, code, _ = ("", "", *path.name.split("."))
        if is_code_of(code, {"timing": digest}, key) and path.is_file() and not not_ours(path):
            found.append((path, digest))
    return max(found, key=lambda cache: cache[0].stat().st_mtime, default=None)


def install_cache(folder: Path, device: str, cache: Path) -> None:
    """Keep a timing cache under its digest and this device's code of it; older ones of that device go."""
    digest = digest_file(cache)
    target = folder / f"{device}.{digest}.{code_of({'timing': digest}, make_key())}.timing"
    cache.chmod(cache.stat().st_mode & FILE_MODE)
    os.replace(cache, target)
    for old in folder.glob(f"{device}.*.timing"):
        if old != target:
            old.unlink()


def _records(bundle: Bundle) -> list[tuple[Path, BuildRecord | EngineError]]:
    """Every build record of a bundle, or why one cannot be read; those with a self-test first."""
    records = read_records(bundle.path / ENGINES, ".json", BuildRecord.from_json)
    return sorted(records, key=lambda item: isinstance(item[1], BuildRecord) and item[1].selftest is None)


def _refusal(bundle: Bundle, record: BuildRecord, version: str, gpu: Gpu) -> str | None:
    """Why an engine cannot be used here, or None."""
    if record.version != version:
        return f"built with {TITLES[record.flavour]} {record.version}, this is {version}"
    if record.gpu is not None and record.gpu != gpu.name:
        return f"built on {record.gpu}, this is {gpu.name}"
    if gpu.sm not in record.capabilities:
        return f"built for SM {', '.join(record.capabilities)}, this GPU is SM {gpu.sm}"
    if is_foreign(bundle, record.graph, record):
        return f"built from another {record.graph} graph than the bundle's"
    return None


def read_records(
    folder: Path, ending: str, from_json: Callable[[bytes], Record]
) -> Iterator[tuple[Path, Record | EngineError]]:
    """Every record in a folder, or why one cannot be read."""
    for path in sorted(folder.glob(f"[!.]*{ending}")):
        try:
            yield path, from_json(read_regular(path, _MOST_RECORD_BYTES, within=folder, owned=True))
        except EngineError as error:
            yield path, error
        except OSError as error:
            yield path, EngineError(f"it cannot be read: {error.strerror}")


def is_foreign(bundle: Bundle, precision: str, record: Any) -> bool:
    """Whether what a record is of was built from another model than the bundle's, or proved by other golden slices.

    Args:
        record: with `onnx_sha256`, `spec_digest` and `golden_digest`.
    """
    model = bundle.manifest.models.get(precision)
    same_model = model is not None and model.sha256 == record.onnx_sha256
    same_proof = record.golden_digest == bundle.manifest.golden_digest
    return not (same_model and same_proof and record.spec_digest == bundle.manifest.spec.digest)


def _verified(path: Path, record: BuildRecord, again: str) -> bytes:
    try:
        plan = read_regular(path, min(record.plan_bytes, _MOST_PLAN_BYTES), within=path.parent, owned=True)
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}; build it on this device: {again}") from error
    if digest_bytes(plan) != record.plan_sha256:
        raise DigestMismatch(f"{path}: these are not the bytes that were built; build it on this device: {again}")
    return plan

"""Engines in a bundle's `engines/`: a plan, its record, and the loader that hands out verified bytes.

A plan is executable code. `load_engine` checks the digest on the very bytes that it returns, and refuses a plan of
another library, version, GPU or graph before TensorRT sees it (whose own words for that are opaque).

    engines/tensorrt-10.3.0-orin-sm87-fp16.json         the record, which names the plan: replacing it switches engines
    engines/tensorrt-10.3.0-orin-sm87-fp16.0b1f….plan   the plan, by its digest
    engines/tensorrt-10.3.0-orin-sm87.5c2e….timing      what the builder measured, by its digest, for the next build
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import ENGINES as ENGINES
from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.errors import DigestMismatch, EngineError
from dtvit_edge.files import write_atomically
from dtvit_edge.spec import digest_bytes, digest_file
from dtvit_edge.trt.releases import TITLES

RECORD_FORMAT = 3
UNPROVEN = "compiled ahead of time, with no GPU to run it on: the device that loads it must test it first"


@dataclass(frozen=True)
class BuildRecord:
    """What is known of one engine; plain JSON types.

    Attributes:
        plan, plan_sha256, plan_bytes: the file beside the record.
        precision: as asked for; graph: the bundle's model it was built from, by its key, and onnx_sha256 its digest.
        spec_digest, golden_digest: of the preprocessing and the golden slices that it was proved with.
        flavour, version: the library's.
        gpu, cuda_ordinal: name of the GPU it was built on, and CUDA's number of it then; None where it was compiled
            ahead of time.
        capabilities: compute capabilities it runs on.
        profiles: batch sizes `min`, `opt`, `max` of each optimization profile, in the engine's order.
        optimization_level: the builder's; None where the release has none.
        flags, fp32_layers: the builder's flags; names of the layers held in FP32. TF32 is always off.
        workspace_bytes, seconds, peak_memory_bytes: of the build.
        layer_precisions: number of layers by the precision they compute in; layers: each of them; layers_from: the
            `engine inspector`, or the `builder's log`.
        selftest: golden slices on this engine; None with selftest_reason saying why there was none.
        warnings: what is doubtful about it; log: what the library warned of.
        machine: as `dtvit_edge.environment.machine`, and the driver.
    """

    plan: str
    plan_sha256: str
    plan_bytes: int
    precision: str
    graph: str
    onnx_sha256: str
    spec_digest: str
    golden_digest: str
    flavour: str
    version: str
    gpu: str | None
    cuda_ordinal: int | None
    capabilities: tuple[str, ...]
    profiles: tuple[dict[str, int], ...]
    optimization_level: int | None
    flags: tuple[str, ...]
    fp32_layers: tuple[str, ...]
    workspace_bytes: int
    seconds: float
    peak_memory_bytes: int | None
    layer_precisions: dict[str, int]
    layers_from: str
    layers: tuple[dict[str, Any], ...]
    selftest: dict[str, Any] | None
    selftest_reason: str
    warnings: tuple[str, ...]
    log: tuple[str, ...]
    machine: dict[str, str]
    format: int = RECORD_FORMAT

    @property
    def name(self) -> str:
        """The record's file name without its ending: library, version, GPU and precision."""
        return f"{device_name(self.flavour, self.version, self.gpu, self.capabilities)}-{self.precision}"

    @property
    def max_batch(self) -> int:
        """The largest batch of its profiles."""
        return max(int(profile["max"]) for profile in self.profiles)

    def to_json(self) -> str:
        """The record's text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BuildRecord:
        """Read a record; anything unknown or missing is an EngineError."""
        try:
            data = json.loads(text)
            if data["format"] != RECORD_FORMAT:
                raise EngineError(f"its format is {data['format']!r}, this code reads {RECORD_FORMAT}")
            lists = [f.name for f in fields(cls) if str(f.type).startswith("tuple")]
            record = cls(**data | {name: tuple(data[name]) for name in lists})
            _ = record.max_batch
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"no build record: {type(error).__name__}: {error}") from error
        if record.plan != os.path.basename(record.plan):
            raise EngineError(f"it names a plan outside its folder: {record.plan}")
        return record


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
    why_not, max_batch = [], None
    for path, record in _records(bundle):
        if isinstance(record, EngineError):
            why_not.append(f"{path.name}: {record}")
            continue
        if (record.flavour, record.precision) != (flavour, precision):
            continue
        max_batch = record.max_batch
        refusal = _refusal(bundle, record, version, gpu)
        if refusal is None and record.selftest is None and not unproven:
            refusal = f"it has had no self-test ({record.selftest_reason})"
        if refusal is None:
            again = build_command(bundle.path, precision, flavour, max_batch=max_batch)
            return Engine(record, _verified(path.with_name(record.plan), record, again))
        why_not.append(f"{path.name}: {refusal}")
    none_fits = f"no {precision} engine for {TITLES[flavour]} in {bundle.path}"
    again = build_command(bundle.path, precision, flavour, max_batch=max_batch)
    raise EngineError("; ".join([none_fits, *why_not, f"build it on this device: {again}"]))


def engine_precisions(bundle: Bundle, flavour: str) -> list[str]:
    """Precisions of a library's engines in a bundle, whether they fit this device or not."""
    records = (record for _, record in _records(bundle) if isinstance(record, BuildRecord))
    return sorted({record.precision for record in records if record.flavour == flavour})


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
        elsewhere = set(capabilities).isdisjoint(record.capabilities) or _is_foreign(bundle, record)
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


def device_name(flavour: str, version: str, gpu: str | None, capabilities: Sequence[str]) -> str:
    """Library, version and device as a part of a file name."""
    name = "-".join(re.findall(r"[a-z0-9]+", (gpu or "").lower()))
    sms = "-".join("sm" + sm.replace(".", "") for sm in capabilities)
    return "-".join(part for part in (flavour, version, name, sms) if part)


def install(folder: Path, record: BuildRecord, plan: Path) -> BuildRecord:
    """Move a plan into the folder under its digest and replace the record; older plans of that name go.

    A reader sees the old engine or the new one, whole.

    Returns:
        The record as it was written.
    """
    target = folder / f"{record.name}.{record.plan_sha256[:12]}.plan"
    record = replace(record, plan=target.name)
    os.replace(plan, target)
    write_atomically(folder / f"{record.name}.json", record.to_json())
    for old in folder.glob(f"{record.name}.*.plan"):
        if old != target:
            old.unlink()
    return record


def find_cache(folder: Path, device: str) -> tuple[Path, str] | None:
    """The newest timing cache of a device, and the sha256 that its name carries."""
    caches = sorted(folder.glob(f"{device}.*.timing"), key=lambda path: path.stat().st_mtime)
    return (caches[-1], caches[-1].name.split(".")[-2]) if caches else None


def install_cache(folder: Path, device: str, cache: Path) -> None:
    """Keep a timing cache under its digest; older ones of that device go."""
    target = folder / f"{device}.{digest_file(cache)}.timing"
    os.replace(cache, target)
    for old in folder.glob(f"{device}.*.timing"):
        if old != target:
            old.unlink()


def _records(bundle: Bundle) -> list[tuple[Path, BuildRecord | EngineError]]:
    """Every build record of a bundle, or why one cannot be read; those with a self-test first."""
    records: list[tuple[Path, BuildRecord | EngineError]] = []
    for path in sorted((bundle.path / ENGINES).glob("[!.]*.json")):
        try:
            records.append((path, BuildRecord.from_json(path.read_text(encoding="utf-8"))))
        except EngineError as error:
            records.append((path, error))
        except (OSError, UnicodeDecodeError) as error:
            records.append((path, EngineError(f"it cannot be read: {error}")))
    return sorted(records, key=lambda item: isinstance(item[1], BuildRecord) and item[1].selftest is None)


def _refusal(bundle: Bundle, record: BuildRecord, version: str, gpu: Gpu) -> str | None:
    """Why an engine cannot be used here, or None."""
    if record.version != version:
        return f"built with {TITLES[record.flavour]} {record.version}, this is {version}"
    if record.gpu is not None and record.gpu != gpu.name:
        return f"built on {record.gpu}, this is {gpu.name}"
    if gpu.sm not in record.capabilities:
        return f"built for SM {', '.join(record.capabilities)}, this GPU is SM {gpu.sm}"
    if _is_foreign(bundle, record):
        return f"built from another {record.graph} graph than the bundle's"
    return None


def _is_foreign(bundle: Bundle, record: BuildRecord) -> bool:
    model = bundle.manifest.models.get(record.graph)
    same_model = model is not None and model.sha256 == record.onnx_sha256
    same_proof = record.golden_digest == bundle.manifest.golden_digest
    return not (same_model and same_proof and record.spec_digest == bundle.manifest.spec.digest)


def _verified(path: Path, record: BuildRecord, again: str) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}; build it on this device: {again}") from error
    if digest_bytes(plan) != record.plan_sha256:
        raise DigestMismatch(f"{path}: these are not the bytes that were built; build it on this device: {again}")
    return plan

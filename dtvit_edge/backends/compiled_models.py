"""Models that OpenVINO has compiled, in a bundle's `engines/`: to import one takes a tenth of the time to compile it.

    engines/openvino-2026.4.1-int8-f32.record           the record, which names the blob
    engines/openvino-2026.4.1-int8-f32.0b1f….blob       what OpenVINO wrote, by its digest

OpenVINO checks a blob's version and little else: of six with flipped bits three ran and answered. So a blob is taken
only where its record carries the code of this device's key or somebody accepted its digest, where it fits library,
processor and bundle, and where the bytes that are imported have the digest that the record names. One that does not fit
or that others may have written is passed over with a warning, because the model itself is there and gives the same
answers. One that this device built and that has other bytes now is refused: a disk that damages it damages more.
"""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from dtvit_edge.backends.compiled_record import BLOB_SUFFIX, RECORD_SUFFIX, CompiledRecord
from dtvit_edge.bundle import ENGINES, Bundle, MemoryCopy
from dtvit_edge.environment import instruction_sets
from dtvit_edge.errors import DigestMismatch, EngineError
from dtvit_edge.trt import record_text
from dtvit_edge.trt.staging import place, require_ours
from dtvit_edge.trt.store import is_foreign, read_records

_MOST_BLOB_BYTES = 1 << 33

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompiledModel:
    """A blob whose digest was checked on these very bytes, and its record.

    Attributes:
        proven: it has had its self-test on this device.
    """

    record: CompiledRecord
    blob: MemoryCopy = field(repr=False)
    proven: bool = True


def find_compiled(bundle: Bundle, version: str, precision: str, hint: str) -> CompiledModel | None:
    """The compiled model of a precision for this OpenVINO and processor; None where the model has to be compiled.

    Args:
        version: as OpenVINO writes it.

    Raises:
        DigestMismatch: its bytes are not the record's; with the command that builds it anew.
    """
    again = build_command(bundle.path, precision, hint)
    passed_over = []
    for path, record in read_records(bundle.path / ENGINES, RECORD_SUFFIX, CompiledRecord.from_json):
        try:
            require_ours(path.parent)
            if isinstance(record, EngineError):
                raise record
            if (record.precision, record.hint) != (precision, hint):
                continue
            _require_fit(bundle, record, version)
            proven = record_text.is_built_here(record, record.mac)
            if not proven and record.blob_sha256 not in bundle.accepted_engines:
                trusts = f"--accept-engine {record.blob_sha256} trusts it"
                raise EngineError(f"not built by this user on this device; {trusts}")
            return CompiledModel(record, _verified(path.with_name(record.blob), record, again), proven)
        except EngineError as error:
            passed_over.append(f"{path.name}: {error}")
    if passed_over:
        log.warning("passed over: %s; OpenVINO compiles the model at each start; %s", "; ".join(passed_over), again)
    else:
        log.debug("OpenVINO compiles the model at each start; to keep it compiled: %s", again)
    return None


def build_command(path: Path, precision: str, hint: str) -> str:
    """The line that compiles a model and keeps it."""
    words = ["dtvit-edge", "build", str(path), "--backend", "openvino", "--precision", precision]
    return shlex.join(words if hint == "f32" else [*words, "--hint", hint])


def install(folder: Path, record: CompiledRecord, blob: Path) -> CompiledRecord:
    """Move a blob into the folder under its digest and replace the record; older blobs of that name go.

    Returns:
        The record as it was written, with the code by this device's key.

    Raises:
        ConfigError, EngineError: there is no such key, and none can be made.
    """
    record = replace(record, blob=f"{record.name}.{record.blob_sha256[:12]}{BLOB_SUFFIX}")
    record = replace(record, mac=record_text.code(record))
    older = f"{record.name}.*{BLOB_SUFFIX}"
    place(blob, folder / record.blob, older, folder / f"{record.name}{RECORD_SUFFIX}", record.to_json())
    return record


def _require_fit(bundle: Bundle, record: CompiledRecord, version: str) -> None:
    """Refuse what was compiled for something else.

    Raises:
        EngineError: with both sides.
    """
    if record.version != version:
        raise EngineError(f"compiled by OpenVINO {record.version}, this is {version}")
    if set(record.instruction_sets) != set(instruction_sets()):
        raise EngineError("compiled for a processor with other instruction sets")
    if is_foreign(bundle, record.precision, record):
        raise EngineError(f"compiled from another {record.precision} model than the bundle's")


def _verified(path: Path, record: CompiledRecord, again: str) -> MemoryCopy:
    try:
        blob = MemoryCopy.of_file(path, min(record.blob_bytes, _MOST_BLOB_BYTES), within=path.parent, owned=True)
    except OSError as error:
        raise EngineError(f"{path.name}: {error.strerror}") from error
    if blob.sha256 != record.blob_sha256:
        blob.close()
        raise DigestMismatch(f"{path}: these are not the bytes that were built; build it on this device: {again}")
    return blob

"""What is known of one compiled model of OpenVINO: the record beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dtvit_edge.errors import EngineError
from dtvit_edge.trt import record_text

RECORD_FORMAT = 1
RECORD_SUFFIX, BLOB_SUFFIX = ".record", ".blob"


@dataclass(frozen=True)
class CompiledRecord:
    """What is known of one compiled model; plain JSON types.

    The number of threads is none of it: it is asked for when the model is opened, and compiled anew in what runs.

    Attributes:
        blob, blob_sha256, blob_bytes: the file beside the record.
        precision: the bundle's model that was compiled, by its key, and onnx_sha256 its digest.
        hint: the inference precision that it was compiled for.
        spec_digest, golden_digest: of the preprocessing and the golden slices that it was proved with.
        version: OpenVINO's, as it writes it.
        instruction_sets: as `dtvit_edge.environment.instruction_sets`, of the processor that it was compiled for.
        seconds: that compiling took.
        selftest: golden slices on this model, read back; its answers are those of the model as it is, bit for bit.
        machine: as `dtvit_edge.environment.machine`.
        mac: the authentication code of all of this, by the key of the device that built it.
    """

    blob: str
    blob_sha256: str
    blob_bytes: int
    precision: str
    hint: str
    onnx_sha256: str
    spec_digest: str
    golden_digest: str
    version: str
    instruction_sets: tuple[str, ...]
    seconds: float
    selftest: dict[str, Any]
    machine: dict[str, str]
    format: int = RECORD_FORMAT
    mac: str = ""

    @property
    def name(self) -> str:
        """The record's file name without its ending."""
        return f"openvino-{self.version.split('-')[0]}-{self.precision}-{self.hint}"

    def to_json(self) -> str:
        """The record's text."""
        return record_text.to_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> CompiledRecord:
        """Read a record; anything unknown or missing is an EngineError."""
        record = record_text.from_json(cls, text, RECORD_FORMAT)
        if record.blob != os.path.basename(record.blob):
            raise EngineError(f"it names a file outside its folder: {record.blob}")
        return record

"""What is known of one engine: the record beside its plan."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dtvit_edge.errors import EngineError
from dtvit_edge.trt import record_text

RECORD_FORMAT = 4


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
        mac: the authentication code of all of this, by the key of the device that built it.
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
    mac: str = ""

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
        return record_text.to_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> BuildRecord:
        """Read a record; anything unknown or missing is an EngineError."""
        record = record_text.from_json(cls, text, RECORD_FORMAT)
        try:
            _ = record.max_batch
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"no build record: {type(error).__name__}: {error}") from error
        if record.plan != os.path.basename(record.plan):
            raise EngineError(f"it names a plan outside its folder: {record.plan}")
        return record


def device_name(flavour: str, version: str, gpu: str | None, capabilities: Sequence[str]) -> str:
    """Library, version and device as a part of a file name."""
    name = "-".join(re.findall(r"[a-z0-9]+", (gpu or "").lower()))
    sms = "-".join("sm" + sm.replace(".", "") for sm in capabilities)
    return "-".join(part for part in (flavour, version, name, sms) if part)

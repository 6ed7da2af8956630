"""Build records, and engines in a bundle's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.spec import digest_bytes
from dtvit_edge.trt.store import ENGINES, BuildRecord, install

ORIN = Gpu("Orin", "8.7")
PLAN = b"machine code"


def record(bundle: Bundle, of: str = "fp16", **changes: Any) -> BuildRecord:
    made = BuildRecord(
        plan="engine.plan",
        plan_sha256=digest_bytes(PLAN),
        plan_bytes=len(PLAN),
        precision=of,
        graph=of,
        onnx_sha256=bundle.manifest.models[of].sha256,
        spec_digest=bundle.manifest.spec.digest,
        golden_digest=bundle.manifest.golden_digest,
        flavour="tensorrt",
        version="10.3.0",
        gpu="Orin",
        capabilities=("8.7",),
        cuda_ordinal=0,
        profiles=({"min": 1, "opt": 1, "max": 1}, {"min": 1, "opt": 4, "max": 4}),
        optimization_level=3,
        flags=("STRONGLY_TYPED",),
        fp32_layers=(),
        workspace_bytes=1 << 28,
        seconds=1.0,
        peak_memory_bytes=None,
        layer_precisions={"fp16": 3},
        layers_from="engine inspector",
        layers=(),
        selftest={"deviations": {"1": 0.0}},
        selftest_reason="",
        warnings=(),
        log=(),
        machine={},
    )
    return replace(made, **changes)


def put(bundle: Bundle, built: BuildRecord, plan: bytes = PLAN) -> Path:
    folder = bundle.path / ENGINES
    folder.mkdir(exist_ok=True)
    (folder / "staged").write_bytes(plan)
    built = replace(built, plan_bytes=len(plan))
    return folder / f"{install(folder, built, folder / 'staged').name}.json"

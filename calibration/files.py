"""The model files that a calibration makes of a smoothed fp32 graph, and how those that passed get into the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ModelProto

from calibration.float8 import quantise_fp8
from calibration.quantise import quantise, typed
from calibration.quantizable import QuantizableOp
from calibration.ranges import Range
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.bundle import MODEL_FILES, Bundle, FileRecord, tolerance_of, write_bundle
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.precisions import LOWER, REFERENCE_PRECISION, TRIMMED
from dtvit_edge.selftest import largest_deviation
from evaluation import gate
from evaluation.gate import Verdict
from export.facts import quantised_facts
from export.onnx_graph import OPSET, check_graph
from export.trimming import trim_graph


def require_possible(bundle: Bundle, only: Sequence[str]) -> None:
    """Refuse a choice of precisions in which one is that this bundle cannot have; all of them is no choice.

    Raises:
        ConfigError: says which, and why.
    """
    models, trimmed = bundle.manifest.models, TRIMMED["int8"]
    if set(only) >= set(LOWER):
        return
    if trimmed in only and TRIMMED[REFERENCE_PRECISION] not in models:
        raise ConfigError(f"{bundle.path} is of a model that leaves out no patches: there can be no {trimmed} of it")
    if "fp16" in only and "fp16" not in models:
        raise ConfigError(f"{bundle.path} has no fp16 to judge, since its export refused it or it was left out later")


def model_files(
    bundle: Bundle,
    smoothed: ModelProto,
    quantised: Sequence[QuantizableOp],
    ranges: Mapping[str, Range],
    spans: Mapping[str, Range],
    ops: Sequence[QuantizableOp],
    only: Sequence[str] = LOWER,
) -> dict[str, bytes]:
    """The files that the gate judges, by precision in the order of `LOWER`.

    Args:
        quantised: the ops in int8, with their `ranges`; fp8 takes all of `ops`, with the `spans` of their inputs.
        only: which files; those that the model cannot have are left out.

    Raises:
        VerdictError: a range that is not finite, or a graph that does not check.
    """
    channels = bundle.manifest.spec.channels
    files = {"int8": quantise(smoothed, quantised, ranges)}
    check_graph(files["int8"], OPSET, channels)
    if "int8-fp16" in only:
        files["int8-fp16"] = typed(files["int8"], channels)
    if "fp8" in only:
        files["fp8"] = quantise_fp8(smoothed, [op for op in ops if not op.attention], spans, channels)
    if TRIMMED["int8"] in only and TRIMMED[REFERENCE_PRECISION] in bundle.manifest.models:
        files[TRIMMED["int8"]] = trim_graph(files["int8"], channels)
    if "fp16" in bundle.manifest.models:
        files["fp16"] = bundle.model_bytes("fp16")
    return {name: files[name] for name in LOWER if name in files and name in only}


def install(
    bundle: Bundle,
    files: Mapping[str, bytes],
    verdicts: Sequence[Verdict],
    summary: dict[str, Any],
    profile: dict[str, Any],
) -> Bundle:
    """The bundle with the int8 and fp8 files that were not refused, without the lower precisions that failed."""
    manifest = bundle.manifest
    outcomes = {v.precision: v.verdict for v in verdicts}
    models, tolerances = dict(manifest.models), dict(manifest.tolerances)
    contents = {record.file: bundle.model_bytes(name) for name, record in models.items()}
    contents |= {record.file: bundle.file_bytes(record) for record in manifest.golden.values()}
    golden, reference = bundle.golden(), manifest.reference
    for name in LOWER:
        # What was not gated is what somebody asked for without proof; its verdict says so.
        passed = outcomes.get(name) in (gate.PASSED, gate.NOT_GATED)
        if name == "fp16" and outcomes.get(name) in (None, gate.INCONCLUSIVE):
            continue
        if not passed:  # or was not asked for: what an earlier calibration made, of other ranges
            if record := models.pop(name, None):
                del contents[record.file]
            tolerances.pop(name, None)
        elif name != "fp16":
            facts = quantised_facts(files[name], manifest.models["fp32"].facts)
            models[name] = FileRecord(MODEL_FILES[name], "", 0, facts)
            contents[MODEL_FILES[name]] = files[name]
            worst = largest_deviation(logits_of(files[name], name, golden.pixels), golden)
            if not np.isfinite(worst):
                raise VerdictError(f"{name}: a logit of the golden slices is not finite; nothing was written")
            # Backends round int8 differently: as far again from fp32, and a share of what tells slices apart.
            tolerances[name] = 2 * worst + tolerance_of("fp16", reference.rounding, reference.spread)
    new = replace(manifest, models=models, tolerances=tolerances, calibration=summary, profile=profile)
    return write_bundle(bundle.path, new, contents, overwrite=True)

"""A calibration as JSON and as a line of records: what was chosen, what the gate found, and what it took."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from calibration.calibrate import CalibrationResult
from dtvit_edge.environment import peak_memory
from evaluation.limits import Limits
from evaluation.records import Record

WHAT = "calibrate: the gate's verdicts"
_CHOSEN = ("method", "methods", "kept_higher", "curve", "encoder", "training", "slices", "limits")


def report_of(result: CalibrationResult, limits: Limits) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "bundle": str(result.bundle.path),
        "digest": result.bundle.digest,
        "encoder": result.bundle.manifest.encoder,
        "training": result.bundle.manifest.training,
        "slices": result.slices,
        "limits": asdict(limits),
        "method": result.method,
        "methods": result.methods,
        "kept_higher": result.kept_higher,
        "curve": [asdict(point) for point in result.curve],
        "sizes": result.sizes,
        "verdicts": [verdict.to_dict() for verdict in result.verdicts],
        "configurations": {verdict.precision: verdict.to_dict() for verdict in result.configurations},
    }


def record_of(result: CalibrationResult, limits: Limits, command: str, began: float) -> Record:
    """The record; its samples are the differences of the slices that differ most, those that are finite.

    Args:
        command: the line that repeats it.
        began: `time.perf_counter()` of the command's begin. CPU time and memory are the whole process's.
    """
    report = report_of(result, limits)
    used = os.times()
    summary = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": used.user + used.system + used.children_user + used.children_system,
        "peak_bytes": float(peak_memory() or 0),
    }
    for verdict in report["verdicts"]:
        figures = _figures(verdict) | {"size": report["sizes"][verdict["precision"]]}
        summary |= {f"{verdict['precision']}: {key}": float(value) for key, value in figures.items()}
    options = {
        "name": result.bundle.manifest.name,
        "verdicts": {verdict.precision: verdict.verdict for verdict in result.verdicts},
        "configurations": {verdict.precision: verdict.verdict for verdict in result.configurations},
        "reasons": {verdict.precision: verdict.reasons for verdict in result.verdicts},
        **{key: report[key] for key in _CHOSEN},
        "command": command,
    }
    worst = {v["precision"]: [d for _, d in v["worst"] if d is not None] for v in report["verdicts"]}
    samples = {precision: differences for precision, differences in worst.items() if differences}
    digests = {"bundle": result.bundle.digest}
    return Record(WHAT, "|difference of ICH probability|", samples, summary, digests=digests, options=options)


def _figures(verdict: dict[str, Any]) -> dict[str, float]:
    """A verdict's figures by name, from `Verdict.to_dict`; those that it does not have are left out."""
    figures = {key: verdict[key] for key in ("rms", "auc", "auc_reference")}
    for head in ("ich", "location", "studies"):
        figures |= {f"{head}_{key}": value for key, value in (verdict[head] or {}).items()}
    for one in verdict["elsewhere"]:
        figures |= {f"{one['name']}, {key}": one["ich"][key] for key in ("slices", "agreement", "high_difference")}
    for key in ("sensitivity", "specificity"):
        ends = zip(("", "_low", "_high"), verdict[key] or (), strict=False)
        figures |= {f"{key}{end}": value for end, value in ends}
    return {key: value for key, value in figures.items() if value is not None}

"""Weights to deploy and the command, for tests of `deploy`: exports and calibrations are stand-ins that are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calibration import deployment
from calibration.calibrate import CalibrationResult, Config, calibrate
from dtvit_edge.bundle import REFUSED, Bundle, write_bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.spec import digest_file
from export.importing import ImportOptions

LOWER = ("fp16", "int8")
LENIENT = ["--agreement", "0.5", "--delta-auc", "0.99", "--least-slices", "4", "--shift-agreement", "0.5",
           "--difference", "0.9", "--shift-slices", "2"]  # fmt: skip


class Workshop:
    """A folder with weights to deploy, and the command; what is run is counted.

    `export_bundle` writes the session's exported bundle under the weights' digest, and `calibrate` a verdict without
    its minutes, unless `real` is called: what either computes has tests of its own.
    """

    def __init__(self, exported: Bundle, folder: Path, slices: Path, patch: pytest.MonkeyPatch) -> None:
        self.exported, self.patch = exported, patch
        self.weights, self.output, self.slices = folder / "w.safetensors", folder / "Doe Jane.dtvit", slices
        self.weights.write_bytes(b"weights")
        self.runs: list[str] = []
        self.refused: dict[str, str] = {}
        self.verdicts: list[dict[str, Any]] = [
            {"precision": name, "verdict": "passed", "reasons": []} for name in ("fp16", "int8")
        ]
        patch.setattr(deployment, "export_bundle", self.export)
        patch.setattr(deployment, "calibrate", self.calibrate)

    def export(self, weights: Path, output: Path, options: ImportOptions, **more: Any) -> Bundle:
        self.runs.append("export")
        manifest = self.exported.manifest
        parity = manifest.parity | {name: {REFUSED: reason} for name, reason in self.refused.items()}
        models = {name: model for name, model in manifest.models.items() if name not in self.refused}
        files = (*models.values(), *manifest.golden.values())
        contents = {file.file: self.exported.file_bytes(file) for file in files}
        new = replace(manifest, weights_sha256=digest_file(weights), models=models, parity=parity)
        return write_bundle(output, new, contents, overwrite=more["overwrite"])

    def calibrate(self, bundle: Bundle, *args: Any, **more: Any) -> Any:
        self.runs.append("calibrate")
        new = replace(bundle.manifest, calibration={"verdicts": self.verdicts})
        files = (*new.models.values(), *new.golden.values())
        contents = {file.file: bundle.file_bytes(file) for file in files}
        return SimpleNamespace(bundle=write_bundle(bundle.path, new, contents, overwrite=True))

    def real(self) -> None:
        def quick(bundle: Bundle, sets: Any, config: Config, **more: Any) -> CalibrationResult:
            return calibrate(bundle, sets, replace(config, sensitivity_slices=1, keep_higher_limit=0.0), **more)

        self.patch.setattr(deployment, "calibrate", quick)

    def deploy(self, *more: str, sliced: bool = True) -> int:
        slices = ["--slices", str(self.slices), *LENIENT] if sliced else []
        self.runs.clear()
        return main(["-q", "deploy", str(self.weights), "-o", str(self.output), "--tune-seconds", "0", *slices, *more])


def steps(printed: str) -> dict[str, Any]:
    return {step["name"]: step for step in json.loads(printed)["steps"]}


def verdicts(step: dict[str, Any]) -> dict[str, str]:
    return {outcome["precision"]: outcome["verdict"] for outcome in step["outcomes"]}

"""What tests of whole runs share: score a folder, read its tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.run import RunReport, run


def score(bundle: Bundle, folder: Path, out: Path, **options: Any) -> RunReport:
    overwrite, identify = options.pop("overwrite", False), options.pop("identify", False)
    chosen = Options(**{"backend": "onnxruntime", "batch": 4, "threads": 1, **options})
    return run(bundle, [folder], out, chosen, overwrite=overwrite, identify=identify)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in ("slices.csv", "studies.csv", "series.csv")}

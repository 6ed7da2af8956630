"""The stage that scores the study folders with the GPU and with the CPU path, as `dtvit-edge score` does."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu_check.engines import options_of, require_engine
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.stages import NotHere
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.run import SLICES, run
from evaluation.records import Record

WHAT = "decisions of the GPU against the CPU path in fp32"


def decisions(settings: Settings, precision: str) -> Iterator[Record]:
    """The same studies through both; flips, and the largest difference of a probability.

    Raises:
        VerdictError: a status differs, or fewer decisions agree than the gate asks for.
    """
    from evaluation.limits import Limits

    bundle, out = Bundle.open(settings.bundle), settings.folder / "scored"
    require_engine(settings, bundle, precision)
    tables = []
    for name, options in (
        ("cpu", Options(backend="onnxruntime", precision="fp32")),
        (f"gpu-{precision}", options_of(settings, precision)),
    ):
        run(bundle, [Path(folder) for folder in settings.studies], out / name, options, overwrite=True)
        with (out / name / SLICES).open(newline="", encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    statuses = sum(a["status"] != b["status"] for a, b in zip(*tables, strict=True))
    pairs = [(a, b) for a, b in zip(*tables, strict=True) if a["status"] == b["status"] == "scored"]
    if not pairs:
        raise NotHere("no slice of the studies is scored by both")
    differences = [abs(float(a["ich_probability"]) - float(b["ich_probability"])) for a, b in pairs]
    flips = sum(a["ich"] != b["ich"] for a, b in pairs)
    agreement = 1 - flips / len(pairs)
    summary = {"slices": float(len(pairs)), "statuses that differ": float(statuses), "flips": float(flips)}
    summary |= {"agreement": agreement, "largest difference": max(differences)}
    yield Record(
        WHAT, "probability", {"difference": differences}, summary, {"bundle": bundle.digest}, {"precision": precision}
    )
    if statuses or agreement < Limits().agreement:
        raise VerdictError(f"{precision}: {statuses} statuses differ, {flips} of {len(pairs)} decisions flip")

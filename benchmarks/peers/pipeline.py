"""A plain script that scores studies: read with pydicom, prepare in floats, infer in batches, take the top slices.

The result of a study is made as the bundle's own: the mean of a series' highest slices, the highest series.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure.end_to_end import FolderRun
from benchmarks.peers import Floats, Infer
from benchmarks.peers.preprocessing import Prepare, Read, read
from dtvit_edge.backend import softmax
from dtvit_edge.spec import ICH_OUTPUT, PreprocessSpec

BATCH = 8
STAGES = ("read", "preprocess", "infer", "aggregate")


def score(files: Sequence[Path], prepare: Prepare, infer: Infer, spec: PreprocessSpec, threshold: float) -> FolderRun:
    """Score slices with a model that is open already.

    Args:
        files: every slice, any order.
    """
    stages = dict.fromkeys(STAGES, 0.0)
    kept: list[Read] = []
    probabilities: list[float] = []
    start = time.perf_counter()
    for first in range(0, len(files), BATCH):
        batch: list[Floats] = []
        for file in files[first : first + BATCH]:
            began = time.perf_counter()
            slice_ = read(file)
            decoded = time.perf_counter()
            batch.append(prepare(slice_.hu, spec))
            stages["read"] += decoded - began
            stages["preprocess"] += time.perf_counter() - decoded
            kept.append(slice_)
        began = time.perf_counter()
        logits = infer(np.stack(batch))
        stages["infer"] += time.perf_counter() - began
        probabilities += softmax(logits[ICH_OUTPUT])[:, 1].tolist()
    began = time.perf_counter()
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    for slice_, probability in zip(kept, probabilities, strict=True):
        series[slice_.study, slice_.series].append(probability)
    flagged: dict[str, bool | None] = {}
    for (study, _), values in series.items():
        top = float(np.mean(sorted(values)[-spec.top_places :]))
        flagged[study] = bool(flagged.get(study)) or top >= threshold
    stages["aggregate"] += time.perf_counter() - began
    decisions = {slice_.sop: p >= threshold for slice_, p in zip(kept, probabilities, strict=True)}
    return FolderRun(time.perf_counter() - start, None, stages, len(kept), decisions, flagged)

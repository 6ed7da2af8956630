"""Score folders in several processes, each with a model of its own; for machines on which one process is too slow.

Run it with: python examples/processes.py model.dtvit study-1/ study-2/
"""

from __future__ import annotations

import multiprocessing
import sys

import dtvit_edge

models: list[dtvit_edge.Model] = []  # of this process


def begin(bundle_path: str) -> None:
    """Called once in each process: a model cannot be sent to it, nor does one live on in a fork."""
    models.append(dtvit_edge.open_model(bundle_path, backend="onnxruntime", threads=1))


def score(folder: str) -> list[dtvit_edge.StudyResult]:
    """Results are plain dataclasses, which do travel."""
    return list(models[0].score(folder))


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2, begin, sys.argv[1:2]) as pool:
        for results in pool.imap(score, sys.argv[2:]):
            for result in results:
                print(result.study.study_uid, result.study.status, result.study.flagged, result.study.reason)

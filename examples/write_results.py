"""Score a folder and write slices.csv, studies.csv and run.json, as the command `score` does.

Run it with: python examples/write_results.py model.dtvit studies/ results/
"""

from __future__ import annotations

import sys
from pathlib import Path

import dtvit_edge
from dtvit_edge.scoring.run import run


def main(bundle_path: str, folder: str, out: str) -> None:
    """The same call continues a run that was interrupted."""
    bundle = dtvit_edge.open_bundle(bundle_path)
    report = run(bundle, [Path(folder)], Path(out), dtvit_edge.Options(backend="onnxruntime"))
    print(f"exit status {report.exit_status}, slices by status {report.counts}")
    for file in report.files:
        print(file)


if __name__ == "__main__":
    main(*sys.argv[1:])

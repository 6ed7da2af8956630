"""Score every study below a folder and print one line for each.

Run it with: python examples/score_folder.py model.dtvit studies/
"""

from __future__ import annotations

import sys

import dtvit_edge


def main(bundle_path: str, folder: str) -> None:
    """A study that is not flagged is not a normal study; None means that nothing can be said."""
    with dtvit_edge.open_model(bundle_path) as model:
        for result in model.score(folder):
            study = result.study
            print(study.study_uid, study.status, study.flagged, study.ich_probability, study.location, study.reason)


if __name__ == "__main__":
    main(*sys.argv[1:])

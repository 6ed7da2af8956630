"""Write a few synthetic head CT studies as DICOM, and say what is really in them.

Run it with: python examples/phantoms.py phantoms/
"""

from __future__ import annotations

import csv
import sys

from dtvit_edge.phantom import write_phantoms


def main(folder: str) -> None:
    """Every second study has a haemorrhage; the same seed draws the same heads."""
    truth = write_phantoms(folder, studies=2, seed=1)
    with truth.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    positive = [row for row in rows if row["ich"] == "1"]
    print(f"{len(rows)} slices, {len(positive)} with a haemorrhage: {sorted({row['location'] for row in positive})}")


if __name__ == "__main__":
    main(*sys.argv[1:])

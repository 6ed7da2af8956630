"""One thread each, a set that is quickly learnt, and a few phantoms."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.quick_statistics import few_resamples
from tests.support.squares import small_squares, squares
from tests.support.threads import one_thread

__all__ = ["few_resamples", "one_thread", "small_squares", "squares"]


@pytest.fixture
def few_phantoms(phantom_folder: Path, tmp_path: Path) -> Path:
    """A labelled set of thirty phantom slices by the names of ten patients, so that they can be split."""
    with (phantom_folder / "truth.csv").open(newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["ich"], reverse=True)[:30]
    with (tmp_path / "few.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "patient", "ich", "location"])
        for i, row in enumerate(rows):
            writer.writerow([phantom_folder / row["path"], f"P{i % 10}", row["ich"], row["location"]])
    return tmp_path / "few.csv"

"""Which slices a fault falls upon: more often than by chance those that show the blood."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset

from benchmarks.measure.faults.studies import Delivery, File

Rng = np.random.Generator
Kind = Callable[[Delivery, Rng], str]
"""A fault: it changes a delivery and returns the words that say what it fell upon."""

SCOPES = ("bleed", "bleed", "bleed", "run", "run", "some of the bleed", "few", "one", "all", "all")


def targets(delivery: Delivery, rng: Rng, *, whole: bool = True) -> tuple[list[File], str]:
    """Slices of the scan, at least one while there are any, and the words that say which.

    Args:
        whole: all slices are a choice too.
    """
    slices = delivery.slices()
    scope = str(rng.choice(SCOPES if whole else SCOPES[:-2]))
    bleed = [f for f in slices if f.index in delivery.scan.bleed]
    if not bleed and scope in ("bleed", "some of the bleed", "run"):
        scope = "few"
    if scope == "all" or not slices:
        chosen = slices
    elif scope == "bleed":
        chosen = bleed
    elif scope == "some of the bleed":
        chosen = some(bleed, rng, int(rng.integers(1, len(bleed) + 1)))
    elif scope == "run":
        low, high = min(f.index or 0 for f in bleed), max(f.index or 0 for f in bleed)
        low, high = low - int(rng.integers(0, 4)), high + int(rng.integers(0, 4))
        chosen = [f for f in slices if low <= (f.index or 0) <= high]
    else:
        chosen = some(slices, rng, 1 if scope == "one" else int(rng.integers(2, 7)))
    return chosen, "all" if len(chosen) == len(slices) else f"slices {numbers(chosen)}"


def each(delivery: Delivery, rng: Rng, change: Callable[[Dataset, File], None]) -> str:
    """Change the datasets of the slices that the fault falls upon; returns the words that say which."""
    files, which = targets(delivery, rng)
    for file in files:
        change(delivery.edit(file), file)
    return which


def some(files: list[File], rng: Rng, count: int) -> list[File]:
    """So many of the files at random, in their order."""
    wanted = sorted(rng.permutation(len(files))[:count])
    return [files[int(i)] for i in wanted]


def numbers(files: list[File]) -> str:
    """The slices' indices, for a report."""
    return ",".join(str(f.index) for f in files)

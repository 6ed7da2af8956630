"""Which confusion counts can give the figures that the paper prints.

It says neither which class is the positive one, nor how the three locations are averaged, nor what specificity is. The
test set is known (section 3), and the figures are printed with three decimals, so that every reading with one positive
class can be tried out: all pairs of misses and false alarms, against each figure as it is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.published import METRICS, PaperRow, facts

LOCATIONS = ("deep", "lobar", "subtentorial")
_DECIMALS = 3


@dataclass(frozen=True)
class Reading:
    """One way to read a row, and the counts that fit it best.

    Attributes:
        name: the class that is positive, and among what; fits: the printed metrics that these counts give.
        counts: true positives, misses, false alarms, true negatives.
    """

    name: str
    fits: tuple[str, ...]
    counts: tuple[int, int, int, int]


def figures(tp: Any, fn: Any, fp: Any, tn: Any) -> dict[str, Any]:
    """The paper's equations 1 to 3 and 5, and specificity as TN / (TN + FP), which the paper does not define.

    Args:
        tp, fn, fp, tn: counts, or arrays of one shape with many of each.
    """
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return {
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "specificity": tn / (tn + fp),
    }


def readings(row: PaperRow) -> list[Reading]:
    """Every reading of a row with one positive class, the one that fits best first."""
    sizes = facts()["test_set"]
    if row.classifier == 1:
        asked = [
            ("no_ich is positive", sizes["no_ich"], sizes["ich"]),
            ("ich is positive", sizes["ich"], sizes["no_ich"]),
        ]
    else:
        asked = [(f"{name} against the other locations", sizes[name], sizes["ich"] - sizes[name]) for name in LOCATIONS]
        asked += [
            (f"{name} against all other images", sizes[name], sizes["images"] - sizes[name]) for name in LOCATIONS
        ]
    found = [_best(name, row.printed, positives, negatives) for name, positives, negatives in asked]
    return sorted(found, key=lambda reading: -len(reading.fits))


def macro_fits(row: PaperRow) -> tuple[str, ...]:
    """Which of a row's figures the mean over the three locations could have at all, given the row's accuracy.

    The accuracy tells how many images are wrong, and each is a miss of one location and a false alarm of another. A
    mean lies between what they cost over the largest and over the smallest denominator there is; nothing closer is
    asked, so that what is not returned here cannot be a mean.
    """
    sizes = facts()["test_set"]
    locations = [sizes[name] for name in LOCATIONS]
    half = 0.5 * 10**-_DECIMALS + 1e-12
    fewest, most = ((1 - row.printed["accuracy"] + sign * half) * sizes["ich"] for sign in (-1, 1))
    least, largest = max(math.ceil(fewest), 0), math.floor(most)
    # By metric, the smallest and largest denominators that wrong images can be counted against.
    denominators = {
        "precision": (min(locations) - largest, max(locations) + least),
        "recall": (min(locations), max(locations)),
        "specificity": (sizes["ich"] - max(locations), sizes["ich"] - min(locations)),
    }
    fits = ["accuracy"]
    for metric, (small, large) in denominators.items():
        low, high = 1 - largest / small / 3, 1 - least / large / 3
        if low - half <= row.printed[metric] <= high + half:
            fits.append(metric)
    return tuple(fits)


def _best(name: str, printed: dict[str, float], positives: int, negatives: int) -> Reading:
    """The counts that give most of the printed figures; recall and one more leave few to try."""
    alarms, misses = np.ogrid[:negatives, :positives]
    given = figures(positives - misses, misses, alarms, negatives - alarms)
    half = 0.5 * 10**-_DECIMALS + 1e-12
    distances = {metric: np.abs(given[metric] - printed[metric]) for metric in METRICS}
    number = sum((distance <= half).astype(np.uint8) for distance in distances.values())
    most = np.nonzero(number == number.max())
    apart = {metric: np.broadcast_to(distance, number.shape)[most] for metric, distance in distances.items()}
    least = int(np.argmin(sum(apart.values())))
    row, column = (int(places[least]) for places in most)
    fits = tuple(metric for metric in METRICS if apart[metric][least] <= half)
    return Reading(name, fits, (positives - column, column, row, negatives - row))

"""Balances a set and splits it into training, validation and test (paper 2.2.3), the clean way and the paper's.

The clean protocol splits 8:1:1 by patient and balances the training part alone. The paper's replicates first and splits
by image afterwards, so that copies of training images sit in the test set; `leaked` counts them.
"""

from __future__ import annotations

import random
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sklearn.model_selection import StratifiedGroupKFold

from dtvit_edge.errors import ConfigError
from evaluation.labels import LabelledSlice

FOLDS = 10  # 8:1:1
MAX_TEST_FOLDS = FOLDS - 2


@dataclass(frozen=True)
class Split:
    """Indices into the labelled set; one that occurs twice is a replica.

    Attributes:
        leaked: test images that are also trained on; 0 unless the paper's protocol was asked for.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    @property
    def leaked(self) -> int:
        """Test entries whose image is also in the training part."""
        trained = set(self.train)
        return sum(i in trained for i in self.test)


def split_by_patient(slices: Sequence[LabelledSlice], *, seed: int, test_folds: int = 1) -> Split:
    """8:1:1 by patient, labels spread evenly as far as patients allow; the training part balanced.

    Args:
        test_folds: tenths of the patients held out as test; 2 holds out a fifth, and 7:1:2 is trained.

    Raises:
        ConfigError: fewer patients than ten.
    """
    patients = [s.patient for s in slices]
    if len(set(patients)) < FOLDS:
        raise ConfigError(f"{len(set(patients))} patients; a split of 8:1:1 by patient needs {FOLDS} or more")
    strata = [_stratum(s) for s in slices]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it then spreads as evenly as it can
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(strata, strata, patients)
        parts = [sorted(int(i) for i in held_out) for _, held_out in folds]
    test = sorted(i for part in parts[:test_folds] for i in part)
    train = [i for part in parts[test_folds + 1 :] for i in part]
    return Split(tuple(balanced(slices, train, seed=seed)), tuple(parts[test_folds]), tuple(test))


def split_like_the_paper(slices: Sequence[LabelledSlice], *, seed: int) -> Split:
    """Replicate first, then split 8:1:1 by image: the protocol of section 2.2.3, leakage and all."""
    indices = balanced(slices, range(len(slices)), seed=seed)
    random.Random(seed).shuffle(indices)
    tenth = len(indices) // FOLDS
    return Split(tuple(indices[2 * tenth :]), tuple(indices[tenth : 2 * tenth]), tuple(indices[:tenth]))


def balanced(slices: Sequence[LabelledSlice], indices: Sequence[int], *, seed: int) -> list[int]:
    """Replicate: locations to 1:1:1, then no haemorrhage to haemorrhage to 1:1 (paper 2.2.3).

    Haemorrhages without a labelled location are a class of their own in the first step and are not replicated
    there. Slices whose `ich` is not labelled pass through once.
    """
    rng = random.Random(seed)
    by_location: dict[int | None, list[int]] = defaultdict(list)
    negative: list[int] = []
    unlabelled: list[int] = []
    for i in indices:
        if slices[i].ich is None and slices[i].location is None:
            unlabelled.append(i)
        elif slices[i].ich is False:
            negative.append(i)
        else:
            by_location[slices[i].location].append(i)
    located = [
        group for location, group in sorted(by_location.items(), key=lambda p: str(p[0])) if location is not None
    ]
    most = max(map(len, located), default=0)
    positive = [i for group in located for i in _replicated(group, most, rng)] + by_location.get(None, [])
    if negative and positive:
        most = max(len(negative), len(positive))
        negative, positive = _replicated(negative, most, rng), _replicated(positive, most, rng)
    return sorted(negative + positive + unlabelled)


def _replicated(group: Sequence[int], length: int, rng: random.Random) -> list[int]:
    """Whole copies of a group, and a draw without replacement for the rest."""
    copies, rest = divmod(length, len(group))
    return list(group) * copies + rng.sample(list(group), rest)


def _stratum(labelled: LabelledSlice) -> int:
    """One number for each kind of label: -1 unlabelled, 0 none, 1 haemorrhage, 2 and up by location."""
    if labelled.location is not None:
        return 2 + labelled.location
    return -1 if labelled.ich is None else int(labelled.ich)

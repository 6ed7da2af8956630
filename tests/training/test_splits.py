from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dtvit_edge.errors import ConfigError
from evaluation.labels import LabelledSlice
from training.splits import balanced, split_by_patient, split_like_the_paper


def labelled(patient: int, ich: bool | None, location: int | None = None) -> LabelledSlice:
    return LabelledSlice(Path("x"), "x", f"P{patient}", ich, location)


def collection(patients: int = 40) -> list[LabelledSlice]:
    """Half the patients bleed, deep ones more often; each has 12 slices, 3 of them positive."""
    slices = []
    for p in range(patients):
        location = (0, 0, 0, 1, 1, 2)[p // 2 % 6] if p % 2 else None
        slices += [
            labelled(p, True, location) if location is not None and i < 3 else labelled(p, False) for i in range(12)
        ]
    return slices


def counts(slices: list[LabelledSlice], indices: tuple[int, ...] | list[int]) -> Counter[object]:
    """By label: "none", "ich" where the location is not labelled, else the location's index."""
    return Counter(_name(slices[i]) for i in indices)


def _name(s: LabelledSlice) -> object:
    if not s.ich:
        return "none"
    return "ich" if s.location is None else s.location


def test_no_patient_stands_on_two_sides() -> None:
    slices = collection()
    for seed in range(5):
        split = split_by_patient(slices, seed=seed)
        sides = [{slices[i].patient for i in part} for part in (split.train, split.validation, split.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert len(sides[0] | sides[1] | sides[2]) == 40
        assert all(3 <= len(side) <= 6 for side in sides[1:])
        assert all(any(slices[i].ich for i in part) for part in (split.validation, split.test))
        assert split.leaked == 0


def test_the_clean_protocol_replicates_in_the_training_part_alone() -> None:
    slices = collection()
    split = split_by_patient(slices, seed=1)
    for part in (split.validation, split.test):
        assert len(set(part)) == len(part)
    by_label = counts(slices, split.train)
    assert by_label[0] == by_label[1] == by_label[2]
    assert abs(by_label["none"] - 3 * by_label[0]) <= 2


def test_replication_keeps_every_original() -> None:
    slices = collection()
    indices = list(range(0, len(slices), 2))
    indices_out = balanced(slices, indices, seed=0)
    assert set(indices_out) == set(indices)
    assert balanced(slices, indices, seed=0) == indices_out


def test_haemorrhages_without_a_location_are_balanced_by_haemorrhage_alone() -> None:
    slices = [labelled(i, i % 5 == 0) for i in range(100)]
    by_label = counts(slices, balanced(slices, range(100), seed=0))
    assert by_label == {"ich": 80, "none": 80}


def test_unlabelled_slices_pass_through_once() -> None:
    slices = [labelled(0, None), labelled(1, True, 0), labelled(2, False), labelled(3, False)]
    assert Counter(balanced(slices, range(4), seed=0)) == {0: 1, 1: 2, 2: 1, 3: 1}


def test_the_papers_protocol_leaks_and_says_how_much() -> None:
    slices = collection()
    split = split_like_the_paper(slices, seed=0)
    total = len(split.train) + len(split.validation) + len(split.test)
    assert len(split.test) == len(split.validation) == total // 10
    assert split.leaked > 0.3 * len(split.test)
    both = {slices[i].patient for i in split.train} & {slices[i].patient for i in split.test}
    assert len(both) > 20, "split by image: patients stand on both sides"


def test_the_seed_decides() -> None:
    slices = collection()
    assert split_by_patient(slices, seed=3) == split_by_patient(slices, seed=3)
    assert split_by_patient(slices, seed=3) != split_by_patient(slices, seed=4)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 patients; a split of 8:1:1 by patient needs 10 or more"):
        split_by_patient(collection(9), seed=0)

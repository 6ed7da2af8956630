"""Which slices calibrate: split by patient, spread, known by digest alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import WINDOWED_8_BIT, PreprocessSpec, digest_bytes
from evaluation.sampling import SETS, Candidate, candidates, load_set, load_sets, split_into_sets, stratified

SPEC = PreprocessSpec()


def test_the_three_sets_share_no_patient_and_each_has_both_labels(pictures: Path) -> None:
    candidates_by_set = split_into_sets(candidates([pictures]), seed=0)
    patients = {name: {c.patient for c in chosen} for name, chosen in candidates_by_set.items()}
    assert set(patients) == set(SETS)
    assert len(set.union(*patients.values())) == sum(map(len, patients.values())) == 10
    assert {name: len(names) for name, names in patients.items()} == {"calibration": 4, "validation": 2, "test": 4}
    assert all({c.ich for c in chosen} == {0, 1} for chosen in candidates_by_set.values())


def test_every_beginning_is_spread_over_labels_positions_and_patients(pictures: Path) -> None:
    pool = candidates([pictures])
    first = list(stratified(pool, seed=0))[:24]
    assert Counter(c.ich for c in first) == {0: 12, 1: 12}
    assert min(Counter(int(c.position * 3) for c in first).values()) == 8
    assert max(Counter(c.patient for c in first).values()) <= 3
    assert sorted(map(id, stratified(pool, seed=0))) == sorted(map(id, pool))


def test_a_set_is_the_same_whatever_order_its_slices_came_in(pictures: Path) -> None:
    pool = candidates([pictures])
    one = load_set(pool, 20, SPEC, seed=0, name="calibration")
    again = load_set(pool, 20, SPEC, seed=0, name="calibration")
    other = load_set(pool, 20, SPEC, seed=1, name="calibration")
    assert one.labels.digests == again.labels.digests == tuple(sorted(one.labels.digests)) != other.labels.digests
    whole, turned = (load_set(f, 30, SPEC, seed=0, name="calibration") for f in (pool, pool[::-1]))
    assert whole.labels.digests == turned.labels.digests
    np.testing.assert_array_equal(whole.pixels, turned.pixels)
    assert [digest_bytes(p.tobytes()) for p in one.pixels] == list(one.labels.digests)
    assert one.pixels.shape == (20, 1, 224, 224)


def test_studies_are_told_apart_by_patient_without_a_name(phantom_folder: Path) -> None:
    pool = candidates([phantom_folder])
    assert len({c.patient for c in pool}) == 2
    assert all(len(c.patient) == 16 and "PHANTOM" not in c.patient.upper() for c in pool)
    assert {c.ich for c in pool} == {-1}
    assert 0 == min(c.position for c in pool) < max(c.position for c in pool) < 1
    chosen = load_set(pool, 6, SPEC, seed=0, name="calibration")
    assert len(chosen) == 6 and set(chosen.labels.patients) == {c.patient for c in pool}


def test_a_given_test_set_gives_no_ranges(pictures: Path) -> None:
    pool = candidates([pictures])
    test_candidates = [c for c in pool if c.patient in ("P1", "P4", "P7")]
    candidates_by_set = split_into_sets(pool, test_candidates, seed=0)
    patients = {name: {c.patient for c in chosen} for name, chosen in candidates_by_set.items()}
    assert patients["test"] == {"P1", "P4", "P7"} and candidates_by_set["test"] == test_candidates
    assert not patients["test"] & (patients["calibration"] | patients["validation"])
    assert (len(patients["calibration"]), len(patients["validation"])) == (5, 2)
    with pytest.raises(ConfigError, match="1 patients; the calibration and validation sets need at least 2"):
        split_into_sets([c for c in pool if c.patient in ("P1", "P2")], test_candidates, seed=0)


def test_one_image_by_two_patients_names_cannot_be_in_the_test_set(pictures: Path) -> None:
    pool = candidates([pictures])
    alias = replace(pool[0], patient="somebody else")
    sizes = dict.fromkeys(SETS, 100)
    with pytest.raises(ConfigError, match="1 slices of the test set are also in another set"):
        load_sets(split_into_sets(pool, [alias], seed=0), sizes, SPEC, seed=0)
    assert set(load_sets(split_into_sets(pool, seed=0), sizes, SPEC, seed=0)) == set(SETS)


def test_unlabelled_slices_are_spread_by_what_the_model_flags(pictures: Path) -> None:
    bright = 200  # the disks that a tenth of these slices show
    labelled = candidates([pictures])
    rare = [c for c in labelled if c.ich == 1][::5] + [c for c in labelled if c.ich == 0]
    unlabelled = [replace(c, ich=-1) for c in rare]
    asked: list[int] = []

    def predict_ich(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        return (pixels > bright).any(axis=(1, 2, 3))

    chosen = load_set(unlabelled, 16, SPEC, seed=0, name="calibration", predict_ich=predict_ich)
    plain = load_set(unlabelled, 16, SPEC, seed=0, name="calibration")
    shares = [predict_ich(slices.pixels).mean() for slices in (chosen, plain)]
    assert asked[0] == 32 and len(chosen) == 16
    assert shares[0] > shares[1] and shares[0] >= 0.3
    assert set(chosen.labels.ich) == {-1}  # a prediction is no label
    asked.clear()
    load_set(unlabelled, 100, SPEC, seed=0, name="calibration", predict_ich=predict_ich)  # all are taken
    load_set(labelled, 16, SPEC, seed=0, name="calibration", predict_ich=predict_ich)
    assert not asked


def test_slices_without_brain_are_passed_over(pictures: Path) -> None:
    empty = Candidate(lambda: (np.zeros((256, 256), np.uint16), WINDOWED_8_BIT), "P", 0.5, 0)
    assert len(load_set([empty, *candidates([pictures])], 500, SPEC, seed=0, name="calibration")) == 80
    with pytest.raises(ConfigError, match="no slice of the validation set shows brain"):
        load_set([empty], 5, SPEC, seed=0, name="validation")


def test_a_folder_without_ct_is_refused_with_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"no head CT to calibrate on in .*give --slices: folders of head CT"):
        candidates([tmp_path])
    with pytest.raises(ConfigError, match="no such folder"):
        candidates([tmp_path / "none"])


def test_a_slice_that_cannot_be_read_half_way_is_named(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "labels.csv").write_text("path,patient,ich,location\nbad.png,P,1,\n")
    with pytest.raises(ConfigError, match=r"bad\.png: not readable"):
        load_set(candidates([pictures, tmp_path / "labels.csv"]), 500, SPEC, seed=0, name="calibration")


def test_few_patients_are_refused(pictures: Path) -> None:
    pool = [c for c in candidates([pictures]) if c.patient in ("P1", "P2", "P3", "P4")]
    with pytest.raises(ConfigError, match="4 patients; the calibration, validation and test sets need at least 5"):
        split_into_sets(pool, seed=0)

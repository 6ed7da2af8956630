"""Which slices calibrate: dealt by patient, spread, known by digest alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import write_phantoms
from dtvit_edge.preprocess.cpu import PreparedSlice
from dtvit_edge.spec import PreprocessSpec, digest_bytes
from evaluation.sampling import SETS, Candidate, candidates, deal, load, load_sets, pick

SPEC = PreprocessSpec()


def test_the_three_sets_share_no_patient_and_each_has_both_labels(pictures: Path) -> None:
    dealt = deal(candidates([pictures]), seed=0)
    patients = {name: {c.patient for c in own} for name, own in dealt.items()}
    assert set(patients) == set(SETS)
    assert len(set.union(*patients.values())) == sum(map(len, patients.values())) == 10
    assert {name: len(own) for name, own in patients.items()} == {"ranges": 4, "choice": 2, "verdict": 4}
    assert all({c.ich for c in own} == {0, 1} for own in dealt.values())


def test_every_beginning_is_spread_over_labels_positions_and_patients(pictures: Path) -> None:
    found = candidates([pictures])
    first = list(pick(found, seed=0))[:24]
    assert Counter(c.ich for c in first) == {0: 12, 1: 12}
    assert min(Counter(int(c.position * 3) for c in first).values()) == 8
    assert max(Counter(c.patient for c in first).values()) <= 3
    assert sorted(map(id, pick(found, seed=0))) == sorted(map(id, found))


def test_a_set_is_the_same_whatever_order_its_slices_were_found_in(pictures: Path) -> None:
    found = candidates([pictures])
    one = load(found, 20, SPEC, seed=0, name="ranges")
    again = load(found, 20, SPEC, seed=0, name="ranges")
    other = load(found, 20, SPEC, seed=1, name="ranges")
    assert one.cases.digests == again.cases.digests == tuple(sorted(one.cases.digests)) != other.cases.digests
    whole, turned = (load(f, 30, SPEC, seed=0, name="ranges") for f in (found, found[::-1]))
    assert whole.cases.digests == turned.cases.digests
    np.testing.assert_array_equal(whole.pixels, turned.pixels)
    assert [digest_bytes(p.tobytes()) for p in one.pixels] == list(one.cases.digests)
    assert one.pixels.shape == (20, 1, 224, 224)


def test_studies_are_told_apart_by_patient_without_a_name(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "in", studies=2, seed=3)
    found = candidates([tmp_path / "in"])
    assert len({c.patient for c in found}) == 2
    assert all(len(c.patient) == 16 and "PHANTOM" not in c.patient.upper() for c in found)
    assert {c.ich for c in found} == {-1}
    assert 0 == min(c.position for c in found) < max(c.position for c in found) < 1
    own = load(found, 6, SPEC, seed=0, name="ranges")
    assert len(own) == 6 and set(own.cases.patients) == {c.patient for c in found}


def test_those_who_judge_give_no_ranges(pictures: Path) -> None:
    found = candidates([pictures])
    judge = [c for c in found if c.patient in ("P1", "P4", "P7")]
    dealt = deal(found, judge, seed=0)
    patients = {name: {c.patient for c in own} for name, own in dealt.items()}
    assert patients["verdict"] == {"P1", "P4", "P7"} and dealt["verdict"] == judge
    assert not patients["verdict"] & (patients["ranges"] | patients["choice"])
    assert (len(patients["ranges"]), len(patients["choice"])) == (5, 2)
    with pytest.raises(ConfigError, match="1 patients; ranges and choice need at least 2"):
        deal([c for c in found if c.patient in ("P1", "P2")], judge, seed=0)


def test_one_image_by_two_patients_names_cannot_judge(pictures: Path) -> None:
    found = candidates([pictures])
    alias = replace(found[0], patient="somebody else")
    sizes = dict.fromkeys(SETS, 100)
    with pytest.raises(ConfigError, match="1 slices of the verdict are also in another set"):
        load_sets(deal(found, [alias], seed=0), sizes, SPEC, seed=0)
    assert set(load_sets(deal(found, seed=0), sizes, SPEC, seed=0)) == set(SETS)


def test_unlabelled_slices_are_spread_by_what_the_model_flags(pictures: Path) -> None:
    bright = 200  # the disks that a tenth of these slices show
    labelled = candidates([pictures])
    rare = [c for c in labelled if c.ich == 1][::5] + [c for c in labelled if c.ich == 0]
    unlabelled = [replace(c, ich=-1) for c in rare]
    asked: list[int] = []

    def guess(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        return (pixels > bright).any(axis=(1, 2, 3))

    chosen = load(unlabelled, 16, SPEC, seed=0, name="ranges", guess=guess)
    plain = load(unlabelled, 16, SPEC, seed=0, name="ranges")
    shares = [guess(own.pixels).mean() for own in (chosen, plain)]
    assert asked[0] == 32 and len(chosen) == 16
    assert shares[0] > shares[1] and shares[0] >= 0.3
    assert set(chosen.cases.ich) == {-1}  # a guess is no label
    asked.clear()
    load(unlabelled, 100, SPEC, seed=0, name="ranges", guess=guess)  # all are taken
    load(labelled, 16, SPEC, seed=0, name="ranges", guess=guess)
    assert not asked


def test_slices_without_brain_are_passed_over(pictures: Path) -> None:
    empty = Candidate(lambda spec: PreparedSlice(np.zeros((1, 224, 224), np.uint8), 0, 0.0), "P", 0.5, 0)
    assert len(load([empty, *candidates([pictures])], 500, SPEC, seed=0, name="ranges")) == 80
    with pytest.raises(ConfigError, match="no slice for choice shows brain"):
        load([empty], 5, SPEC, seed=0, name="choice")


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
        load(candidates([pictures, tmp_path / "labels.csv"]), 500, SPEC, seed=0, name="ranges")


def test_few_patients_are_refused(pictures: Path) -> None:
    found = [c for c in candidates([pictures]) if c.patient in ("P1", "P2", "P3", "P4")]
    with pytest.raises(ConfigError, match="4 patients; ranges, choice and verdict need at least 5"):
        deal(found, seed=0)

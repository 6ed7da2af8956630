"""Which slices calibrate: dealt by patient, spread, known by digest alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from calibration.slices import SETS, Candidate, candidates, deal, load, pick
from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import write_phantoms
from dtvit_edge.preprocess.cpu import Prepared
from dtvit_edge.spec import PreprocessSpec, digest_bytes

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


def test_slices_without_brain_are_passed_over(pictures: Path) -> None:
    empty = Candidate(lambda spec: Prepared(np.zeros((1, 224, 224), np.uint8), 0, 0.0), "P", 0.5, 0)
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

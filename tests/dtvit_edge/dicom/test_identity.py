from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.dicom.identity import patients, without_copies
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.results import Identity
from tests.support.headers import header

SAME = Identity("2.25.1", "2.25.2", "2.25.3")


def at(folder: Path, name: str, z: float, content: str, **values: Any) -> SliceHeader:
    (folder / name).write_text(content)
    made = header(z, name=str(folder / name), **{"identity": SAME, "patient": "p", **values})
    return made


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_file_that_is_there_twice_is_a_copy_of_the_first_by_order(tmp_path: Path, name: str) -> None:
    kept, copies = without_copies([at(tmp_path, "m", 0, "pixels"), at(tmp_path, name, 0, "pixels")])
    assert [(h.path, h.twin) for h in kept] == [(str(tmp_path / "m"), False)]
    assert [(r.path, r.reason.code) for r in copies] == [(str(tmp_path / name), "duplicate")]


def test_one_uid_on_every_slice_makes_no_copies_and_no_twins(tmp_path: Path) -> None:
    kept, copies = without_copies([at(tmp_path, str(z), z, str(z)) for z in range(0, 30, 5)])
    assert [h.twin for h in kept] == [False] * 6
    assert not copies


def test_other_bytes_under_the_same_uids_in_the_same_place_are_twins(tmp_path: Path) -> None:
    kept, copies = without_copies(
        [at(tmp_path, "a", 0, "whole"), at(tmp_path, "b", 0, "who"), at(tmp_path, "c", 5, "x")]
    )
    assert [h.twin for h in kept] == [True, True, False]
    assert not copies


def test_another_patients_image_is_no_twin(tmp_path: Path) -> None:
    kept, _ = without_copies([at(tmp_path, "a", 0, "mine"), at(tmp_path, "b", 0, "yours", patient="q")])
    assert [h.twin for h in kept] == [False, False]
    assert patients(kept) == {"2.25.1": 2}


def test_an_image_without_a_patient_id_is_nobody_elses(tmp_path: Path) -> None:
    kept, _ = without_copies([at(tmp_path, "a", 0, "mine"), at(tmp_path, "b", 5, "no name", patient="")])
    assert patients(kept) == {"2.25.1": 1}


def test_a_file_that_cannot_be_read_again_is_kept(tmp_path: Path) -> None:
    headers = [at(tmp_path, "a", 0, "pixels"), at(tmp_path, "b", 0, "pixels")]
    (tmp_path / "b").unlink()
    kept, copies = without_copies(headers)
    assert [h.twin for h in kept] == [True, True]
    assert not copies


@pytest.mark.parametrize(("issuers", "count"), [(("", ":a"), 1), ((":a", ":a"), 1), ((":a", ":b"), 2)])
def test_a_missing_issuer_is_any_and_two_issuers_are_two_patients(
    tmp_path: Path, issuers: tuple[str, str], count: int
) -> None:
    headers = [at(tmp_path, str(i), 5.0 * i, str(i), patient=f"p{issuer}") for i, issuer in enumerate(issuers)]
    assert patients(headers) == {"2.25.1": count}

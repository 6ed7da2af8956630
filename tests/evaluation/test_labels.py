from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dtvit_edge.errors import ConfigError
from evaluation.labels import labels_digest, read_labels, write_labels
from tests.support.data import real


def write(folder: Path, *rows: str, header: str = "path,patient,ich,location") -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"x")
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "labels.csv"


def test_rows_are_read_with_either_label_empty(tmp_path: Path) -> None:
    a, b, c = read_labels(write(tmp_path, "a.png,P1,1,lobar", "b.png,P1,0,", "c.png,P2,,"))
    assert (a.ich, a.location, a.patient, a.file) == (True, 1, "P1", tmp_path / "a.png")
    assert (b.ich, b.location) == (False, None)
    assert (c.ich, c.location) == (None, None)


def test_a_column_of_floats_is_one_of_labels(tmp_path: Path) -> None:
    """A data frame writes 1 as 1.0 where one label of the column is missing."""
    a, b, c = read_labels(write(tmp_path, "a.png,P1,1.0,", "b.png,P1,0.0,", "c.png,P2,,"))
    assert (a.ich, b.ich, c.ich) == (True, False, None)


@pytest.mark.parametrize(("header", "said"), [("path;patient;ich;location", "separated by ';', expected commas"),
                                              ("Path,Patient,ICH,Location", "in lower case")])  # fmt: skip
def test_a_header_of_another_kind_is_said_and_not_repeated(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(ConfigError, match="no column path, patient, ich, location") as caught:
        read_labels(write(tmp_path, "a.png,P,1,", header=header))
    assert said in str(caught.value) and header.split(",")[0] not in str(caught.value)


def test_one_file_by_two_spellings_is_named_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="named more than once"):
        read_labels(write(tmp_path, "a.png,P1,1,", "./a.png,P1,0,"))


def test_a_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    slices = read_labels(write(tmp_path, "a.png,P1,1,lobar", "b.png,'=P1,0,", "c.png,P2,,"))
    write_labels(tmp_path / "below" / "again.csv", slices)
    again = read_labels(tmp_path / "below" / "again.csv")
    assert [(s.patient, s.ich, s.location) for s in again] == [(s.patient, s.ich, s.location) for s in slices]
    assert [s.path for s in again] == ["../a.png", "../b.png", "../c.png"]


def test_further_columns_are_left_alone(tmp_path: Path, phantom_folder: Path) -> None:
    slices = read_labels(phantom_folder / "truth.csv")
    assert len(slices) > 40
    assert {s.ich for s in slices} == {True, False}
    assert all((s.location is not None) == s.ich for s in slices)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("absent.png,P,1,", "line 2: absent.png: no such file"),
        (",P,1,", "no path"),
        ("a.png,,1,", "a.png: no patient"),
        ("a.png,P,yes,", "ich is 'yes', expected 0, 1 or nothing"),
        ("a.png,P,1,frontal", "location is 'frontal', expected deep, lobar, subtentorial"),
        ("a.png,P,0,deep", "a location (deep) on a slice without haemorrhage"),
    ],
)
def test_what_cannot_be_meant_is_said_with_its_line(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_labels(write(tmp_path, row))
    assert said in str(caught.value)


def test_many_mistakes_are_counted_and_the_first_few_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="and 12 more") as caught:
        read_labels(write(tmp_path, *(f"absent{i}.png,P,1," for i in range(20))))
    assert str(caught.value).count("no such file") == 8
    assert str(caught.value).endswith("\n  a path begins at the CSV's folder, unless it is absolute")


def test_a_file_named_twice_and_missing_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.png: named more than once"):
        read_labels(write(tmp_path, "a.png,P,1,", "a.png,P,0,"))
    with pytest.raises(ConfigError, match="no column patient, location"):
        read_labels(write(tmp_path, "a.png,1", header="path,ich"))
    with pytest.raises(ConfigError, match="no rows"):
        read_labels(write(tmp_path))
    with pytest.raises(ConfigError, match="not readable as a CSV"):
        read_labels(tmp_path / "absent.csv")


def test_the_digest_follows_labels_and_files(tmp_path: Path) -> None:
    first = labels_digest(read_labels(write(tmp_path, "a.png,P,1,")))
    assert labels_digest(read_labels(write(tmp_path, "a.png,P,1,"))) == first
    assert labels_digest(read_labels(write(tmp_path, "a.png,P,0,"))) != first
    slices = read_labels(write(tmp_path, "a.png,P,1,"))
    (tmp_path / "a.png").write_bytes(b"longer")
    assert labels_digest(slices) != first


def test_the_real_set_is_readable_with_its_column_renamed(tmp_path: Path) -> None:
    source = real("phe-sich", "labels.csv")
    with source.open(newline="") as stream:
        rows = list(csv.DictReader(stream))[:50]
    lines = [f"{source.parent / r['file']},{r['patient']},{r['ich']}," for r in rows]
    slices = read_labels(write(tmp_path, *lines))
    assert len(slices) == 50

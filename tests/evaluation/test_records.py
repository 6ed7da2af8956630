from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import CPU_RECORDS
from dtvit_edge.errors import ConfigError
from evaluation.records import Record, append, latest, ratio_summary, read


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {"what": "x", "unit": "ms", "samples": {"a": [1.0, 2.0]}, "summary": {"median": 1.5}}
    return Record(**{**values, **changes})


def test_a_record_is_one_line_and_comes_back_whole(tmp_path: Path) -> None:
    first, second = record(digests={"bundle": "ab"}, options={"batch": 1}), record(what="y\nz")
    for r in (first, second):
        append(tmp_path / "deep" / "r.jsonl", r)
    assert len((tmp_path / "deep" / "r.jsonl").read_text().splitlines()) == 2
    assert list(read(tmp_path / "deep" / "r.jsonl")) == [first, second]


def test_a_record_names_its_machine_and_versions() -> None:
    environment = record().environment
    assert environment["machine"]["cores"].isdigit()
    assert environment["packages"]["numpy"]
    assert environment["packages"]["torch"]


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": {}},
        {"samples": {"a": []}},
        {"samples": {"a": [float("nan")]}},
        {"summary": {"median": float("inf")}},
    ],
    ids=["no-sides", "no-samples", "nan", "infinite"],
)
def test_a_record_without_honest_samples_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        record(**changes)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    append(path, record())
    path.write_text(path.read_text() + json.dumps({"format": 2}) + "\n")
    with pytest.raises(ConfigError, match=r"r\.jsonl:2: not a record"):
        list(read(path))


def test_the_latest_of_a_kind(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert latest(path, "x") is None
    for value in (1.0, 2.0):
        append(path, record(summary={"median": value}))
    append(path, record(what="y"))
    newest = latest(path, "x")
    assert newest is not None
    assert newest.summary == {"median": 2.0}


def test_ratios_are_pair_by_pair() -> None:
    ratios = ratio_summary([2.0, 4.0, 6.0], [1.0, 2.0, 2.0])
    assert (ratios["ratio_median"], ratios["pairs"]) == (2.0, 3.0)


def test_the_committed_records_are_readable() -> None:
    for path in CPU_RECORDS.parent.glob("*.jsonl"):
        for record in read(path):
            assert record.options.get("command", "").startswith(
                ("python -m benchmarks.", "python -m training.", "make ", "dtvit-edge ")
            ), record.what

"""The Python API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dtvit_edge
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring.api import Options, score
from dtvit_edge.scoring.csv_files import probability
from dtvit_edge.scoring.run import run
from tests.support.dicom_files import series
from tests.support.scoring_runs import table


def test_the_api_gives_what_the_files_hold(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    bundle = dtvit_edge.open_bundle(str(tiny_bundle.path))
    results = list(dtvit_edge.score(bundle, [phantom_folder], Options(backend="onnxruntime")))
    report = run(tiny_bundle, [phantom_folder], tmp_path / "out", Options(backend="onnxruntime"))
    assert {r.study for r in results} == set(report.studies)
    said = {
        (s.path, s.frame): (str(s.status), s.reason, probability(s.ich_probability)) for r in results for s in r.slices
    }
    rows = table(tmp_path / "out" / "slices.csv")
    assert said == {
        (row["path"], int(row["frame"])): (row["status"], row["reason"], row["ich_probability"])
        for row in rows
        if row["study_uid"]
    }


def test_an_untrained_location_head_says_nothing_and_changes_nothing_else(
    tiny_bundle: Bundle, tiny_bundle_without_location: Bundle, phantom_folder: Path
) -> None:
    whole, without = (
        list(score(bundle, [phantom_folder], Options(backend="onnxruntime")))
        for bundle in (tiny_bundle, tiny_bundle_without_location)
    )
    assert any(r.study.location for r in whole), "the fixture no longer shows a location"
    for before, after in zip(whole, without, strict=True):
        assert after.study == replace(before.study, location="")
        assert {s.location_probabilities for s in after.stacks} == {None}
        assert after.slices == tuple(replace(s, location_probabilities=None) for s in before.slices)
        assert {s.location for s in after.slices} == {""}


def test_studies_come_one_by_one_whatever_the_batch(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for i in range(4):
        series(tmp_path / str(i), [0, 5, 10], uid=f"2.25.{i + 1}", study=f"2.25.1{i}")
    series(tmp_path / "c", [0, 5], uid="2.25.8", study="2.25.18", ContrastBolusAgent="X")
    expected = None
    for batch in (1, 2, 5, 64):
        results = list(score(tiny_bundle, [tmp_path], Options(backend="onnxruntime", batch=batch)))
        assert [r.study.study_uid for r in results] == ["2.25.10", "2.25.11", "2.25.12", "2.25.13", "2.25.18"]
        values = [round(r.study.ich_probability or -1, 6) for r in results]
        expected = expected or values
        assert values == expected
    assert results[-1].study.reason == "no_suitable_series"


def test_wrong_options_stop_before_the_first_file() -> None:
    with pytest.raises(ConfigError, match="batch is 0"):
        Options(batch=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("backend", "precision", "reader") for value in (None, [], {"a": 1}, 7)),
        *((name, value) for name in ("any_series", "keep_all", "deterministic") for value in (None, "no", 1)),
        ("hint", []), ("hint", False),
    ],
)  # fmt: skip
def test_options_that_are_no_names_or_no_switches_are_refused_in_a_sentence(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*, expected"):
        Options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("threshold", value) for value in ("0.5", True, [0.5], np.array([0.5]))),
        *(("batch", value) for value in ("8", 8.0, True, np.float32(8))),
        ("threads", 1.5), ("workers", 1.5), ("device", "0"), ("device", False),
    ],
)  # fmt: skip
def test_options_that_are_no_numbers_are_refused_in_a_sentence(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is .*, expected a"):
        Options(**{name: value})


def test_numpys_numbers_become_plain_ones() -> None:
    options = Options(threshold=np.float32(0.5), batch=np.int64(8))  # type: ignore[arg-type]
    assert (type(options.threshold), type(options.batch)) == (float, int)
    with pytest.raises(ConfigError, match="the threshold is nan"):
        Options(threshold=np.float64("nan"))


def test_the_package_offers_what_it_names() -> None:
    for name in dtvit_edge.__all__:
        assert getattr(dtvit_edge, name)
    with pytest.raises(AttributeError):
        _ = dtvit_edge.absent

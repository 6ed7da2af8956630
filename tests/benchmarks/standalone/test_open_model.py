"""The benchmark of open models runs, and would see an answer that differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.standalone import open_model
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.api import StudyResult
from dtvit_edge.scoring.model import Model


def run(bundle: Bundle, studies: Path) -> str:
    arguments = [str(bundle.path), str(studies), "--rounds", "1", "--callers", "3", "--slices", "40"]
    done = CliRunner().invoke(open_model.main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_way_is_timed_and_many_threads_are_compared(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    output = run(tiny_bundle, phantom_folder / "study-0001")
    assert all(f"\n{name} " in output for name in ("inference", "predict", *open_model.WAYS))
    assert output.count("descriptors") == 8
    assert "0 of 40 answers differ" in output


def test_an_answer_that_differs_is_counted(
    tiny_bundle: Bundle, phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def probability_of(result: StudyResult) -> float | None:
        nonlocal count
        count += 1
        return 2.0 if count == 60 else result.slices[0].ich_probability

    monkeypatch.setattr(open_model, "probability_of", probability_of)
    monkeypatch.setattr(open_model, "costs", lambda model, one, rounds: isinstance(model, Model))
    assert "1 of 40 answers differ" in run(tiny_bundle, phantom_folder / "study-0001")

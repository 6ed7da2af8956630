"""A part of the histories that `python -m benchmarks.standalone.histories` lives through whole."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.standalone import histories
from benchmarks.standalone.histories import Step, history, open_model
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.scoring import studies
from evaluation.records import read


def lived(bundle: Bundle, work: Path, seed: int) -> list[Step]:
    with open_model(bundle) as model:
        return history(bundle, model, work, random.Random(seed), 3, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_folder_that_changes_at_random_leaves_the_bytes_of_a_fresh_run(
    tiny_bundle: Bundle, tmp_path: Path, seed: int
) -> None:
    steps = lived(tiny_bundle, tmp_path, seed)
    assert len(steps) == 3 and not [step for step in steps if not step.is_good]


def test_a_journal_that_knows_slices_by_their_uids_alone_is_found(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_uids(image: SliceImage) -> str:
        return hashlib.sha256(repr([header.identity for header in image.headers]).encode()).hexdigest()[:32]

    monkeypatch.setattr(studies, "image_key", by_uids)
    assert [step for step in lived(tiny_bundle, tmp_path, 2) if not step.is_good]


def test_histories_are_recorded(tiny_bundle: Bundle, tmp_path: Path) -> None:
    command = [str(tiny_bundle.path), "--histories", "1", "--steps", "1", "--seed", "5", "--record", f"{tmp_path}/r"]
    done = CliRunner().invoke(histories.main, command)
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert record.summary["bad"] == 0 and record.summary["steps"] == 1
    assert record.summary["slices scored"] <= record.summary["slices that had to be"]
    assert str(tmp_path) not in str(record.options)

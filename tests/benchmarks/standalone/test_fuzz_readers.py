"""A part of the fuzzing that `python -m benchmarks.standalone.fuzz_readers` does whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.standalone import fuzz_readers
from benchmarks.standalone.fuzz_readers import fuzzed
from benchmarks.standalone.mutated_files import mutant
from dtvit_edge.dicom.fast_values import WANTED
from evaluation.records import read

INPUTS = 700


@pytest.mark.parametrize("seed", [11, 12, 13, 14])
def test_whatever_the_fast_reader_accepts_is_what_pydicom_reads(tmp_path: Path, seed: int) -> None:
    tally = fuzzed(seed, range(INPUTS), tmp_path)
    assert tally.findings == []
    counts = tally.counts
    assert counts["inputs"] == INPUTS
    assert counts["pixels"] > 0.3 * INPUTS, "mutants that both leave to pydicom's decoder show nothing"
    assert counts["accepted"] > 0.2 * INPUTS, "nor do such as the fast reader leaves to pydicom"
    assert counts["accepted"] - counts["slices"] > 0.01 * INPUTS, "nor such as nobody rejects"


def test_a_seed_and_a_number_always_give_the_same_file() -> None:
    assert [mutant(5, n) for n in range(20)] == [mutant(5, n) for n in range(20)]
    assert len({mutant(5, n) for n in range(200)}) > 190
    assert mutant(5, 0) != mutant(6, 0)


def test_a_reader_that_is_wrong_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyword, vrs, decode = WANTED[0x00200013]
    monkeypatch.setitem(WANTED, 0x00200013, (keyword, vrs, lambda raw: (decode(raw) or 0) + 1))
    done = CliRunner().invoke(fuzz_readers.main, ["--inputs", "60", "--out", str(tmp_path / "r")])
    assert done.exit_code == 1
    assert "instance_number: 8 by the fast reader, 7 by pydicom" in done.output
    (record,) = read(tmp_path / "r")
    assert record.summary["differences"] > 5


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done = CliRunner().invoke(fuzz_readers.main, ["--first", "40", "--inputs", "30", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    assert "go on with --first 70" in done.output
    (record,) = read(tmp_path / "r")
    assert (record.summary["inputs"], record.options["first"]) == (30, 40)

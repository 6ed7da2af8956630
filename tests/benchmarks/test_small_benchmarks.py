"""The benchmarks run and record what they say; nothing here judges a time."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from benchmarks import graph_rewrites, slice_cost, startup
from benchmarks.records import read


def test_slice_cost_records_every_stage(tmp_path: Path) -> None:
    done = CliRunner().invoke(slice_cost.main, ["--rounds", "20", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert set(record.samples) == {"header", "read", "table", "mask", "resample", "preprocess"}
    assert all(len(values) == 20 for values in record.samples.values())


def test_startup_records_three_sides(tmp_path: Path) -> None:
    done = CliRunner().invoke(startup.main, ["--rounds", "5", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert {k: len(v) for k, v in record.samples.items()} == {"import": 5, "help": 5, "bare": 5}


def test_graph_rewrites_alternates_and_agrees_before_it_times(tmp_path: Path) -> None:
    arguments = ["--encoder", "vit_tiny_patch16_224", "--rounds", "10", "--runs", "1", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(graph_rewrites.main, arguments)
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert {k: len(v) for k, v in record.samples.items()} == {"plain": 10, "rewritten": 10}
    assert record.summary["max_abs_difference"] <= 1e-5

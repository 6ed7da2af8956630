from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.command import bench
from benchmarks.measure.yardstick import YARDSTICK_OPTION
from benchmarks.report.compare import compare
from benchmarks.results import names
from dtvit_edge.errors import ConfigError, VerdictError
from evaluation.records import Record, append

INT8 = "onnxruntime int8"


def write(path: Path, *, seed: int, slower: float = 1.0, auc: float = 0.99, threads: int = 1) -> Path:
    """A run's records with seeded noise."""
    rng = np.random.default_rng(seed)
    ms = slower * (10 + rng.exponential(0.2, 200))
    options = {"bundle": "demo", "threads": threads}
    digests = {"bundle": "d"}
    for record in (
        Record(names.ACCURACY, "p", {INT8: [0.5]}, {f"{INT8}: ich_auc": auc}, digests=digests, options=options),
        Record(names.LATENCY, "ms", {INT8: ms.tolist(), names.NULL_BACKEND: [9.0 * seed + 1]}, {}, options=options),
        Record(
            names.THROUGHPUT, names.SLICES_PER_SECOND, {f"{INT8}: batch 8": (1e3 / ms).tolist()}, {}, options=options
        ),
    ):
        append(path / names.RECORDS_FILE, record)
    return path


def test_two_runs_alike_have_no_change(tmp_path: Path) -> None:
    comparison = compare(write(tmp_path / "a", seed=1), write(tmp_path / "b", seed=2))
    assert [change.ratio.verdict for change in comparison.changes] == ["no change", "no change"]
    assert not comparison.worse and not comparison.accuracy and not comparison.differences


def test_a_seeded_slowdown_of_five_percent_is_found_in_times_and_in_rates(tmp_path: Path) -> None:
    comparison = compare(write(tmp_path / "a", seed=1), write(tmp_path / "b", seed=2, slower=1.05))
    assert [change.ratio.verdict for change in comparison.changes] == ["slower", "slower"]
    assert all(change.ratio.value == pytest.approx(1.05, abs=0.01) for change in comparison.changes)
    assert len(comparison.worse) == 2
    back = compare(tmp_path / "b", tmp_path / "a")
    assert [change.ratio.verdict for change in back.changes] == ["faster", "faster"] and not back.worse


@pytest.mark.parametrize(
    ("machine", "slower", "verdict"),
    [(1.025, 1.0, "no change"), (1.025, 1.05, "slower"), (1.1, 1.0, "cannot tell"), (1.1, 1.6, "slower"),
     (0.9, 1.0, "cannot tell"), (0.9, 0.6, "faster")],
)  # fmt: skip
def test_a_slower_machine_is_no_slower_program(tmp_path: Path, machine: float, slower: float, verdict: str) -> None:
    for name, seed, factor, unit in (("a", 1, 1.0, 3.0), ("b", 2, slower * machine, 3.0 * machine)):
        ms = factor * (10 + np.random.default_rng(seed).exponential(0.2, 200))
        yard = {"": [unit] * 200, f"{INT8}: batch 8": [unit, unit]}
        options = {"bundle": "demo", YARDSTICK_OPTION: yard}
        record = Record(names.LATENCY, "ms", {INT8: ms.tolist()}, {}, options=options)
        rates = Record(
            names.THROUGHPUT, names.SLICES_PER_SECOND, {f"{INT8}: batch 8": (1e3 / ms).tolist()}, {}, options=options
        )
        peak = Record(names.MEMORY, names.BYTES, {INT8: [2.0**20] * 12}, {}, options=options)
        for one in (record, rates, peak):
            append(tmp_path / name / names.RECORDS_FILE, one)
    latency, rate, memory = compare(tmp_path / "a", tmp_path / "b").changes
    assert latency.ratio.verdict == rate.ratio.verdict == verdict
    assert latency.machine == rate.machine == pytest.approx(machine)
    assert memory.machine is None and memory.ratio.verdict == "no change"
    done = CliRunner().invoke(bench, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert f"{machine:.3f}" in done.output and "it is divided out" in done.output


def test_what_lasted_less_than_a_second_cannot_tell(tmp_path: Path) -> None:
    for name, ms in (("a", 0.2), ("b", 0.3)):
        record = Record(names.STAGES, "ms", {"header": [ms] * 64, "long": [100 * ms] * 64}, {}, options={"bundle": "b"})
        append(tmp_path / name / names.RECORDS_FILE, record)
    header, long = compare(tmp_path / "a", tmp_path / "b").changes
    assert (header.ratio.verdict, long.ratio.verdict) == ("cannot tell", "slower")
    assert header.ratio.value == pytest.approx(1.5) and str(header.ratio) == "1.500"
    done = CliRunner().invoke(bench, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert json.loads(done.output)["changes"][0]["ratio"]["high"] is None


def test_a_lower_auc_is_worse_however_small_and_a_higher_one_is_not(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", seed=1), write(tmp_path / "b", seed=1, auc=0.98)
    assert compare(a, b).worse == (f"{INT8}: ich_auc",)
    assert compare(b, a).worse == () and len(compare(b, a).accuracy) == 1


def test_what_the_runs_differ_in_is_said(tmp_path: Path) -> None:
    comparison = compare(write(tmp_path / "a", seed=1), write(tmp_path / "b", seed=1, threads=2))
    assert comparison.differences["threads"] == ("1", "2")


def test_the_command_ends_with_one_where_something_is_worse(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", seed=1), write(tmp_path / "b", seed=2, slower=1.05)
    done = CliRunner().invoke(bench, ["compare", str(a), str(b), "--json"])
    assert isinstance(done.exception, VerdictError)
    assert {change["verdict"] for change in json.loads(done.output)["changes"]} == {"slower"}
    quiet = CliRunner().invoke(bench, ["compare", str(a), str(a)])
    assert quiet.exit_code == 0 and "accuracy: the same figures" in quiet.output


def test_runs_that_share_nothing_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a", seed=1)
    with pytest.raises(ConfigError, match="no records"):
        compare(a, tmp_path / "nothing")
    other = tmp_path / "other.jsonl"
    append(other, replace(Record(names.LATENCY, "ms", {INT8: [1.0]}, {}), options={"bundle": "another"}))
    with pytest.raises(ConfigError, match="in common"):
        compare(a, other)

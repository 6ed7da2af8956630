"""Bundles of one run: in units of the yardstick, and nothing is said of answers that mean nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measure.yardstick import ALL_SAMPLES, YARDSTICK_OPTION
from benchmarks.report import encoders, plots
from benchmarks.report.report import HTML, SUMMARY, write_report
from benchmarks.report.run_view import RunView, run_views
from benchmarks.results import names
from evaluation.records import Record

INT8 = "onnxruntime int8"


def view(name: str, ms: float, *, auc: tuple[float, float, float] | None, machine: float = 1.0) -> RunView:
    """A bundle whose configuration takes `ms` on a machine `machine` times as slow; untrained without an AUC."""
    options = {
        "bundle": name,
        "encoder": f"encoder of {name}",
        "training": "synthetic" if auc else "untrained",
        "data": "d",
        "command": "line",
        "verdicts": {INT8: "passed"},
        "configurations": {INT8: {"precision": "int8", "backend": "onnxruntime"}},
    }
    value, low, high = auc or (0.5, 0.4, 0.6)
    figures = {"agreement": 1.0, "ich_auc": value, "ich_auc_low": low, "ich_auc_high": high}
    summary = {names.key_of(INT8, key): figure for key, figure in figures.items()}
    samples = [machine * (ms + 0.001 * i) for i in range(24)]
    timed = options | {YARDSTICK_OPTION: {ALL_SAMPLES: [3.0 * machine] * 24}}
    kept = {names.ICH_LABELS: [0.0, 1.0], INT8: [0.1, 0.9]}
    accuracy = Record(names.ACCURACY, "p", kept, summary, options=options)
    latency = Record(names.LATENCY, "ms", {INT8: samples, names.NULL_BACKEND: [0.001] * 24}, {}, options=timed)
    return RunView({names.ACCURACY: accuracy, names.LATENCY: latency})


def test_a_slower_hour_is_not_held_against_a_model() -> None:
    first, second = view("a", 2.0, auc=None), view("b", 4.0, auc=None, machine=1.3)
    assert encoders.times_as_long(second, first).value == pytest.approx(2.0, rel=0.01)
    without = replace(second.records[names.LATENCY], options={})
    second = RunView(second.records | {names.LATENCY: without})
    assert encoders.times_as_long(second, first).value == pytest.approx(2.6, rel=0.01)


def test_the_fastest_comes_first_and_the_labels_decide_what_they_can() -> None:
    fast, slow = view("fast", 2.0, auc=(0.98, 0.97, 0.99)), view("slow", 4.0, auc=(0.985, 0.975, 0.995))
    said = " ".join(encoders.sentences([slow, fast]))
    assert said.startswith("Fastest here: fast (encoder of fast, synthetic), 2.01 ms")
    assert "slow (encoder of slow, synthetic) takes 1.99" in said and "no difference between them" in said
    better = view("slow", 4.0, auc=(0.999, 0.995, 1.0))
    assert "By these labels slow is the best" in " ".join(encoders.sentences([better, fast]))
    assert [row[0].split(" ")[0] for row in encoders.table([slow, fast]).rows] == ["fast", "slow"]


def test_nothing_is_recommended_whose_gate_was_off_or_whose_times_have_two_modes() -> None:
    fast, slow = view("fast", 4.0, auc=(0.9, 0.8, 1.0)), view("slow", 9.0, auc=(0.92, 0.85, 1.0))
    assert any("so take the fastest" in line for line in encoders.sentences([fast, slow]))
    accuracy, latency = fast.accuracy, fast.records[names.LATENCY]
    off = replace(accuracy, options=accuracy.options | {"limits": {"agreement": 0.0}})
    said = encoders.sentences([RunView(fast.records | {names.ACCURACY: off}), slow])
    assert "Not gated, so that nothing says how faithful these files are: fast." in said
    assert not any("take the fastest" in line for line in said)
    by_turns = latency.samples | {INT8: [4.0] * 24 + [6.0] * 25}
    said = encoders.sentences([RunView(fast.records | {names.LATENCY: replace(latency, samples=by_turns)}), slow])
    assert "Times with two modes, from which nothing follows: fast." in said
    assert not any("take the fastest" in line for line in said)


def test_of_an_untrained_model_the_speed_alone_is_shown() -> None:
    both = [view("trained", 2.0, auc=(0.98, 0.97, 0.99)), view("never", 1.0, auc=None)]
    never, trained = encoders.table(both).rows
    assert never[0].startswith("never") and "0.5" not in never[-2] and trained[-2] == "0.9800 (0.970 to 0.990)"
    said = " ".join(encoders.sentences(both))
    assert "only their speed means anything: never." in said and "AUC" not in said
    picture = plots.speed_against_accuracy(both)
    assert picture is not None and ("never", INT8, pytest.approx(1.0115), "") in picture.rows
    assert "dotted: never trained, only the speed" in picture.notes


def test_where_none_was_trained_the_plane_is_of_agreement_and_not_of_an_auc() -> None:
    picture = plots.speed_against_accuracy([view("never", 1.0, auc=None)])
    assert picture is not None and picture.columns[-1] == "agreement" and picture.rows[0][-1] == 1.0


def test_two_bundles_have_it_in_their_report_and_one_has_not(
    ran: tuple[Path, dict[str, Record]], tmp_path: Path
) -> None:
    records = list(ran[1].values())
    other = [replace(record, options=record.options | {"bundle": "other"}) for record in records]
    write_report(tmp_path, [*records, *other])
    assert encoders.HEADING in (tmp_path / SUMMARY).read_text() and "times as long" in (tmp_path / HTML).read_text()
    assert encoders.HEADING not in (ran[0] / SUMMARY).read_text()
    assert len(run_views(records)) == 1


def test_bundles_of_two_runs_do_not_stand_beside_each_other(
    ran: tuple[Path, dict[str, Record]], tmp_path: Path
) -> None:
    records = list(ran[1].values())
    changes = {"bundle": "other", "command": "another line"}
    write_report(tmp_path, [*records, *(replace(record, options=record.options | changes) for record in records)])
    assert encoders.HEADING not in (tmp_path / SUMMARY).read_text()
    assert len(list(tmp_path.glob("speed-accuracy*.png"))) == 2

"""The report: self-contained, escaped, and honest in what it says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.pareto import error_against_latency, front
from benchmarks.report.report import HTML, MARKDOWN, SUMMARY, write_report
from benchmarks.report.run_view import RunView, run_views
from benchmarks.report.tables import scanners
from benchmarks.report.verdicts import summary, verdicts
from benchmarks.results import names
from dtvit_edge.spec import NOTICE
from evaluation.records import Record
from evaluation.scanner_shifts import SHIFTS

Ran = tuple[Path, dict[str, Record]]


def test_the_page_loads_nothing_and_says_what_it_is(ran: Ran) -> None:
    text = (ran[0] / HTML).read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|iframe|img|object|embed)\b", text)
    assert not re.findall(r'\b(?:src|href|srcset)="(?!#|data:image/png;base64,)', text)
    assert not re.findall(r"url\((?!#)|@import", text)
    assert NOTICE in text.lower() and "how accurate the model is on patients" in text
    assert text.count("<svg") >= 5
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="|url\()#([^")]+)', text):
        assert target in ids


def test_nobody_is_called_normal(ran: Ran) -> None:
    for name in (HTML, MARKDOWN, SUMMARY):
        text = (ran[0] / name).read_text(encoding="utf-8").lower()
        assert set(re.findall(r"\w+ \w+ normal \w+", text)) <= {"not a normal study"}
    assert "no_ich" in (ran[0] / "confusion-wrong.csv").read_text()


def test_no_path_and_no_patients_name_is_in_it(ran: Ran, phantom_folder: Path) -> None:
    for file in ran[0].iterdir():
        if file.suffix != ".png":
            text = file.read_text(encoding="utf-8")
            assert str(phantom_folder) not in text and "PHANTOM-" not in text and "/tmp" not in text, file.name


def test_markdown_pictures_exist(ran: Ran) -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ran[0] / MARKDOWN).read_text(encoding="utf-8"))
    assert len(pictures) >= 5
    assert all((ran[0] / picture).stat().st_size > 1000 for picture in pictures)


def test_a_failed_precision_has_a_verdict_and_no_milliseconds(ran: Ran) -> None:
    (view,) = run_views(list(ran[1].values()))
    said = dict(verdicts(view))
    assert said["int8"].startswith("not usable here, no latency: failed: ich: ")
    assert "prove too little" in said["fp32"] and "only one timed" in said["fp32"]
    assert any(line.startswith("Do not use: onnxruntime int8.") for line in summary(view))


def test_a_run_by_another_command_stands_beside_and_one_by_the_same_replaces(ran: Ran, tmp_path: Path) -> None:
    records = list(ran[1].values())
    other = [replace(record, options=record.options | {"command": "another line"}) for record in records]
    assert [view.slug for view in run_views([*records, *other])] == ["wrong", "wrong-2"]
    failed = replace(records[0], options=records[0].options | {"verdicts": {}})
    (view,) = run_views([*records, failed])
    assert list(view.records) == [names.ACCURACY] and view.accuracy is failed


@pytest.mark.parametrize(("load", "careful"), [("1.20", False), ("3.40", True)])
def test_a_busy_machine_is_said_first(ran: Ran, load: str, careful: bool) -> None:
    latency = ran[1][names.LATENCY]
    facts = {"load average, one minute": load, "cores of this process": "1 of 2, pinned to 1"}
    for others in ({names.OTHER_WORK: None}, {names.OTHER_WORK: float(load) / 10}):
        options = latency.options | {"before": {"observed": facts, "absent": {}}} | others
        (view,) = run_views(list((ran[1] | {names.LATENCY: replace(latency, options=options)}).values()))
        assert any(line.startswith("Careful: other work ran meanwhile") for line in summary(view)) == careful


def hostile(record: Record) -> Record:
    return replace(
        record,
        options=record.options
        | {"bundle": '<img src=x onerror="a()">$x_', "encoder": "a|b<c>[x](javascript:1)\x1b[1m\u202e"},
    )


def test_names_cannot_break_out_of_the_page(ran: Ran, tmp_path: Path) -> None:
    write_report(tmp_path, [hostile(record) for record in ran[1].values()])
    text = (tmp_path / HTML).read_text(encoding="utf-8")
    assert "<img" not in text and "&lt;img src=x" in text and "a|b&lt;c&gt;[x]" in text
    for plain in (*tmp_path.glob("*.md"), tmp_path / SUMMARY):
        assert "<img" not in plain.read_text(encoding="utf-8") or plain.suffix != ".md", plain.name
        assert not set("\x1b\u202e") & set(plain.read_text(encoding="utf-8")), plain.name
    assert "&#91;x&#93;(javascript:1)" in (tmp_path / MARKDOWN).read_text(encoding="utf-8")
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}


def invented(medians: dict[str, tuple[str, float]], verdict: str = "passed") -> RunView:
    """A view of configurations with constant times: name -> (precision, ms)."""
    common: dict[str, Any] = {"bundle": "b", "encoder": "e", "training": "synthetic", "left_out": {}, "data": "d",
                              "reference": "PyTorch eager fp32"}  # fmt: skip
    options = {
        **common,
        "verdicts": dict.fromkeys(medians, verdict),
        "configurations": {
            configuration: {"precision": precision, "backend": "x"} for configuration, (precision, _) in medians.items()
        },
    }
    accuracy = Record(names.ACCURACY, "p", {names.ICH_LABELS: [0.0, 1.0]}, {}, options=options)
    samples = {configuration: [ms + 0.001 * i for i in range(20)] for configuration, (_, ms) in medians.items()}
    return RunView({names.ACCURACY: accuracy, names.LATENCY: Record(names.LATENCY, "ms", samples, {}, options=common)})


def test_the_fastest_faithful_precision_is_named() -> None:
    said = dict(verdicts(invented({"trt fp16": ("fp16", 5.0), "trt int8": ("int8", 4.0), "ort fp32": ("fp32", 9.0)})))
    assert said["int8"].startswith("faithful to PyTorch and fastest here: 1.25 times as fast as fp16")
    assert "but INT8 wins here" in said["fp16"] and "but INT8 wins here: 2.25 times" in said["fp32"]


def with_options(view: RunView, **options: Any) -> RunView:
    """The same with other options of its accuracy."""
    changed = replace(view.accuracy, options=view.accuracy.options | options)
    return RunView(view.records | {names.ACCURACY: changed})


def summarised(view: RunView) -> str:
    """The summary of an invented view, which needs a machine and a source of slices."""
    machine = {"machine": {"processor": "p", "cores": 1}, "packages": {}}
    return " ".join(summary(RunView(view.records | {names.ACCURACY: replace(view.accuracy, environment=machine)})))


@pytest.mark.parametrize("verdict", ["passed", "inconclusive", "not gated"])
def test_a_gate_that_was_switched_off_is_not_gated_and_recommends_nothing(verdict: str) -> None:
    off = {"agreement": 0.0, "auc": 1.0, "slices": 500}
    view = with_options(invented({"a fp32": ("fp32", 4.0)}, verdict), limits=off)
    assert view.verdict("a fp32") == "not gated" and "faithful to" not in verdicts(view)[0][1].split("nothing")[0]
    assert verdicts(view)[0][1].startswith("not gated")
    said = summarised(view)
    assert "limits of the gate were switched off (--agreement, --delta-auc). Fastest is a fp32" in said
    assert "No recommendation" in said and "Use a fp32" not in said
    quick = with_options(view, limits={"shift_slices": 0})
    assert "switched off (--shift-slices, as --quick does)" in summarised(quick)
    assert "nothing was asked of that: not gated" in said and "too few" not in said
    kept = with_options(view, limits={"agreement": 0.995, "auc": 0.002, "slices": 500}, verdicts={"a fp32": "passed"})
    assert kept.verdict("a fp32") == "passed" and "Use a fp32" in summarised(kept)
    failed = with_options(view, verdicts={"a fp32": "failed"})
    assert failed.verdict("a fp32") == "failed"


@pytest.mark.parametrize(
    ("recorded", "said"), [("onnxruntime fp32", "ONNX Runtime fp32"), ("PyTorch eager fp32", "PyTorch")]
)
def test_the_reference_is_called_what_it_was(recorded: str, said: str, ran: Ran, tmp_path: Path) -> None:
    view = with_options(invented({"a fp32": ("fp32", 4.0)}), reference=recorded)
    assert verdicts(view)[0][1].startswith(f"faithful to {said}") and f"as {said} does." in summarised(view)
    records = [replace(r, options=r.options | {"reference": recorded}) if r.what == names.ACCURACY else r
               for r in ran[1].values()]  # fmt: skip
    write_report(tmp_path, records)
    text = (tmp_path / SUMMARY).read_text(encoding="utf-8") + (tmp_path / MARKDOWN).read_text(encoding="utf-8")
    assert f"compares the deployed files with the same model in {said}" in text
    assert ("PyTorch" in text.replace("from PyTorch's logits", "")) == (said == "PyTorch")


def test_the_report_has_a_table_by_shift_of_the_scanner(ran: Ran) -> None:
    (view,) = run_views(list(ran[1].values()))
    table = scanners(view)
    assert table is not None and [row[0] for row in table.rows] == [shift.name for shift in SHIFTS]
    assert table.columns == ("scanner", "onnxruntime fp32", "onnxruntime int8")
    assert all(row[1] == "100.00%, 0.000" for row in table.rows)  # the reference itself
    assert "Shifts of the scanner" in (ran[0] / MARKDOWN).read_text(encoding="utf-8")
    bare = {k: v for k, v in view.accuracy.summary.items() if not k.endswith(", agreement")}
    assert scanners(RunView({names.ACCURACY: replace(view.accuracy, summary=bare)})) is None


def test_a_run_with_two_modes_is_not_recommended() -> None:
    view = invented({"a int8": ("int8", 4.0), "a fp32": ("fp32", 9.0)})
    latency = view.records[names.LATENCY]
    slow_half = [4.0 + 0.001 * i for i in range(20)] + [6.0 + 0.001 * i for i in range(20)]
    steady = [4.0 + 0.001 * i for i in range(40)]

    def timed(int8: list[float], fp32: list[float]) -> RunView:
        return RunView(view.records | {names.LATENCY: replace(latency, samples={"a int8": int8, "a fp32": fp32})})

    shown = timed(slow_half, [sample + 5 for sample in steady])
    said = summarised(shown)
    assert "Use " not in said and "No recommendation: times have two modes (a int8 took 4.01 or 6.01 ms)" in said
    assert "two modes, 4.01 and 6.01 ms, and are not to be compared" in dict(verdicts(shown))["int8"]
    # One that is slow in both of its modes changes nothing for the fastest.
    shown = timed(steady, [sample + 10 for sample in slow_half])
    assert "Use a int8" in summarised(shown)


def test_int8_that_is_slower_says_that_fp16_wins() -> None:
    said = dict(verdicts(invented({"trt fp16": ("fp16", 4.0), "trt int8": ("int8", 5.0)})))
    assert said["int8"].startswith("faithful to PyTorch, but FP16 wins here: 1.25 times as fast")


def test_a_lead_within_the_noise_is_no_win() -> None:
    said = dict(verdicts(invented({"a fp32": ("fp32", 4.0), "a int8": ("int8", 4.0)})))
    assert all("within the noise" in sentence for sentence in said.values())


def test_a_gate_without_enough_slices_is_never_called_faithful() -> None:
    said = dict(verdicts(invented({"a fp32": ("fp32", 4.0)}, "inconclusive")))
    assert "faithful" not in said["fp32"] and "prove too little" in said["fp32"]


@pytest.mark.parametrize("training", ["untrained", "synthetic", "clinical-unvalidated"])
def test_the_summary_says_how_the_model_was_trained(ran: Ran, training: str) -> None:
    records = [replace(r, options=r.options | {"training": training}) for r in ran[1].values()]
    text = " ".join(summary(run_views(records)[0]))
    assert {"untrained": "never trained", "synthetic": "phantoms alone"}.get(training, "nobody has validated") in text


def test_only_what_nobody_beats_in_time_and_error_is_on_the_front() -> None:
    points = [("slow", 9.0, 0.001), ("fast", 1.0, 0.1), ("worse", 1.5, 0.2), ("middle", 3.0, 0.1), ("good", 4.0, 0.05)]
    assert front(points) == ["fast", "good", "slow"]
    assert front([("a", 1.0, 0.2), ("b", 1.0, 0.1)]) == ["b"]


def test_error_stands_over_latency_with_the_gates_verdict_on_all_that_was_measured(ran: Ran) -> None:
    (view,) = run_views(list(ran[1].values()))
    plot = error_against_latency(view)
    assert plot is not None and (ran[0] / f"{plot.name}.png").exists()
    rows = {row[0]: row[1:] for row in plot.rows}
    assert set(rows) == set(view.configurations)
    ms, error, verdict, unbeaten = rows["onnxruntime int8"]
    assert (ms, verdict, unbeaten) == ("", "failed", "no") and float(error) > 0
    assert all(rows[name][0] == view.median_ms(name) for name in view.passed)
    assert any(row[3] == "yes" for row in rows.values())

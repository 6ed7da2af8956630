"""Tables with UIDs, on terminals of several widths and in a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render, terminal, units
from dtvit_edge.results import Status

# The longest that DICOM allows (PS3.5 section 9.1).
UIDS = [f"1.2.826.0.1.3680043.8.498.{i}{'0123456789' * 4}"[:64] for i in range(3)]
assert {len(uid) for uid in UIDS} == {64}

Screen = Callable[[int], None]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Makes stdout a terminal of so many columns."""

    def of_width(columns: int) -> None:
        monkeypatch.setattr(terminal, "console", lambda: Console(width=columns, force_terminal=True, color_system=None))

    return of_width


def report(*uids: str) -> Any:
    studies = [
        SimpleNamespace(
            study_uid=uid,
            status=Status.PARTIAL if i else Status.SCORED,
            flagged=not i,
            ich_probability=0.9 - i / 10,
            location="subtentorial",
            scored=30 - i,
            slices=30,
            reason="missing_slices" if i else "",
        )
        for i, uid in enumerate(uids)
    ]
    return SimpleNamespace(studies=studies, counts={"scored": 90}, reasons={}, files=[])


@pytest.mark.parametrize("columns", [64, 80, 100])
def test_a_study_uid_stands_on_one_line_of_a_narrow_terminal(
    columns: int, screen: Screen, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    screen(columns)
    render.run_report(report(*UIDS), tiny_bundle, any_series=False, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(UIDS[0])
    assert all(len(line) <= columns for line in lines[: first + 6])
    assert lines[:2] == ["study", lines[1]] and lines[1].split()[:3] == ["status", "flagged", "probability"]
    assert lines[first + 1].split() == ["scored", "1", "0.9000", "subtentorial", "30/30"]
    said = " ".join(lines[lines.index(UIDS[1]) + 1 :])
    assert said.split()[:6] == ["partial", "0", "0.8000", "subtentorial", "29/30", "missing_slices"]


def test_a_wide_terminal_and_a_pipe_have_one_line_a_study(
    screen: Screen, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_pipe in (True, False):
        if not is_pipe:
            screen(160)
        render.run_report(report(*UIDS), tiny_bundle, any_series=False, as_json=False)
        (line,) = [line for line in capsys.readouterr().out.splitlines() if UIDS[1] in line]
        assert line.split() == [UIDS[1], "partial", "0", "0.8000", "subtentorial", "29/30", "missing_slices"]


def test_two_uids_a_row_stay_whole_in_a_pipe_and_the_rest_folds(capsys: pytest.CaptureFixture[str]) -> None:
    warnings = ", ".join(["geometry_uncertain"] * 9)
    terminal.uid_rows(("study", "series"), ("slices", "warnings"), [(UIDS[0], UIDS[1], "30", warnings)])
    text = capsys.readouterr().out
    assert any(UIDS[0] in line and UIDS[1] in line for line in text.splitlines())
    assert text.count("geometry_uncertain") == 9 and all(len(line) <= 200 for line in text.splitlines())


@pytest.mark.parametrize(
    ("seconds_a_step", "lines"),
    [
        (0.01, []),
        (1.0, ["10 of 100", "20 of 100", "30 of 100", "40 of 100", "50 of 100"]),
        (45.0, [f"{i} of 100" for i in range(2, 51, 2)]),
    ],
    ids=["quick", "a tenth", "a minute"],
)
def test_a_log_gets_a_line_a_stage_and_one_a_tenth_or_a_minute(
    seconds_a_step: float, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    monkeypatch.setattr(terminal, "_quiet", False)
    with terminal.progress("ranges", 100) as step:
        for _ in range(50):
            now += seconds_a_step
            step(1)
    streams = capsys.readouterr()
    assert streams.err.splitlines() == ["ranges: 100", *(f"ranges: {line}" for line in lines)] and not streams.out
    monkeypatch.setattr(terminal, "_quiet", True)
    with terminal.progress("ranges", 0) as step:
        step(1)
    assert not capsys.readouterr().err


def test_both_uids_of_a_dry_run_stay_whole_on_80_columns(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen(80)
    terminal.uid_rows(("study", "series"), ("slices", "would be"), [(UIDS[0], UIDS[1], "30", "refused: contrast")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [UIDS[0], UIDS[1], "  30      refused: contrast", ""]


def test_a_bundles_digest_stands_on_one_line_and_sizes_have_units(
    screen: Screen, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    screen(80)
    render.bundle(tiny_bundle, as_json=False)
    text = capsys.readouterr().out
    assert f"digest {tiny_bundle.digest}\n" in text
    size = units.size(tiny_bundle.manifest.models["fp32"].bytes)
    assert re.search(rf"model\.fp32\.onnx +{size} ", text) and "_bytes" not in text

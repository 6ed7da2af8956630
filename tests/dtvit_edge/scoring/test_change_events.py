"""Changes that the system tells of end a pause; where it tells of none, the clock does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring import watch as watch_module
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.change_events import ChangeEvents, change_events
from dtvit_edge.scoring.run import RunReport
from tests.support.dicom_files import series

LONG = 30.0


def later(seconds: float, file: Path) -> threading.Thread:
    thread = threading.Timer(seconds, file.write_bytes, [b"x"])
    thread.start()
    return thread


def test_a_change_ends_a_pause_and_what_the_run_itself_writes_does_not(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    (tmp_path / "in" / "out").mkdir(parents=True)
    with change_events([tmp_path / "in"], tmp_path / "in" / "out", 0.5) as events:
        assert events is not None
        (tmp_path / "in" / "out" / "studies.csv").write_bytes(b"x")
        assert events.pause(0.5) >= 0.4
    with change_events([tmp_path / "in"], tmp_path / "in" / "out", LONG) as events:
        assert events is not None
        thread = later(0.2, tmp_path / "in" / "new")
        assert events.pause(LONG) < LONG / 2
        thread.join()


def test_a_watcher_that_fails_leaves_the_pauses_to_the_clock_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails() -> Iterator[set[object]]:
        yield set()
        raise OSError("OS file watch limit reached")

    events = ChangeEvents(fails())
    assert events.pause(LONG) < 1
    with caplog.at_level(logging.WARNING):
        assert events.pause(0.05) >= 0.05 and events.pause(0.05) >= 0.05
    assert len(caplog.records) == 1 and "polled" in caplog.text


def test_without_the_library_there_are_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with change_events([tmp_path], tmp_path / "out", 1) as events:
        assert events is None


def test_an_idle_watch_looks_when_something_comes_and_waits_for_it_to_be_quiet(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("watchfiles")
    slept: list[float] = []
    monkeypatch.setattr(watch_module.time, "sleep", slept.append)
    series(tmp_path / "in", [0.0, 5, 10])
    reports: list[RunReport] = []
    threads: list[threading.Thread] = []

    def scored(report: RunReport) -> None:
        reports.append(report)
        if len(reports) == 3:
            raise KeyboardInterrupt
        if len(reports) == 1:
            threads.append(later(0.2, tmp_path / "in" / "note.txt"))

    began = time.monotonic()
    options = Options(backend="onnxruntime", batch=4, threads=1)
    with pytest.raises(KeyboardInterrupt):
        watch_module.watch(tiny_bundle, [tmp_path / "in"], tmp_path / "out", options, LONG, scored=scored)
    assert time.monotonic() - began < LONG / 2, "the new file was not waited for by the clock"
    assert slept == [LONG, LONG], "but until it was quiet"
    assert [sum(report.counts.values()) for report in reports] == [3, 3, 4]

"""Folders that are watched: what is quiet is scored, the rest is waited for, and an idle look reads nothing."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.dicom import header_pool
from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring import watch as watch_module
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.result_files import is_finished
from dtvit_edge.scoring.run import RunReport
from dtvit_edge.scoring.watch import watch
from tests.support.dicom_files import series
from tests.support.permissions import forbid
from tests.support.scoring_runs import results, score, table

HEIGHTS = [0.0, 5, 10]
OPTIONS = Options(backend="onnxruntime", batch=4, threads=1)
Event = Callable[[], Any]


def nothing() -> None:
    """Between two looks nothing happens."""


def watched(bundle: Bundle, folder: Path, out: Path, *events: Event, seconds: float = 30) -> list[RunReport | None]:
    """What each look led to; between them the events happen, and then an interrupt."""
    reports: list[RunReport | None] = []
    found: list[RunReport] = []
    left = list(events)

    def sleep(asked: float) -> None:
        assert asked == seconds
        reports.append(found.pop() if found else None)
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    with pytest.raises(KeyboardInterrupt):
        watch(bundle, [folder], out, OPTIONS, seconds, scored=found.append, sleep=sleep)
    return reports


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files of which a header is read from now on."""
    read: list[str] = []
    here = header_pool.read_headers_apart

    def recorded(file: Path, path: str, **options: Any) -> Any:
        read.append(path)
        return here(file, path, **options)

    monkeypatch.setattr(header_pool, "read_headers_apart", recorded)
    return read


def test_what_comes_is_scored_once_it_is_quiet_and_an_idle_look_reads_nothing(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "out"  # which is no study
    series(folder / "a", HEIGHTS)
    read = read_files(monkeypatch)
    more = lambda: series(folder / "b", HEIGHTS, uid="2.25.5", study="2.25.6")  # noqa: E731
    reports = watched(tiny_bundle, folder, out, nothing, nothing, more, nothing, nothing)
    assert [None if r is None else r.processed for r in reports] == [None, 3, None, 0, 3, None]
    assert len(read) == 6 and is_finished(out)
    left = results(out)
    shutil.rmtree(out)
    score(tiny_bundle, folder, tmp_path / "fresh")
    assert left == results(tmp_path / "fresh")


def test_a_file_that_grows_is_left_until_it_is_quiet_and_its_study_is_not_whole_before(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    *_, last = series(folder / "a", HEIGHTS)
    whole = last.read_bytes()
    last.write_bytes(b"")
    seen: list[tuple[set[str], str]] = []

    def look() -> None:
        rows = {row["path"] for row in table(out / "slices.csv")}
        seen.append((rows, table(out / "studies.csv")[0]["reason"]))

    def grows(size: int) -> Event:
        return lambda: (look() if out.exists() and is_finished(out) else None, last.write_bytes(whole[:size]))

    watched(tiny_bundle, folder, out, grows(500), grows(50_000), grows(len(whole)), nothing)
    look()
    name = last.relative_to(folder).as_posix()
    assert len(seen) == 3 and all(name not in rows and "unread" in reason for rows, reason in seen[:-1])
    assert name in seen[-1][0] and "unread" not in seen[-1][1]
    score(tiny_bundle, folder, tmp_path / "fresh")
    assert results(out) == results(tmp_path / "fresh")


def test_a_folder_that_is_away_for_a_moment_takes_no_result_with_it(
    tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, away, out = tmp_path / "in", tmp_path / "away", tmp_path / "out"
    series(folder / "a", HEIGHTS)
    reports = watched(
        tiny_bundle, folder, out, nothing, lambda: folder.rename(away), lambda: away.rename(folder), nothing
    )
    assert [None if r is None else r.processed for r in reports] == [None, 3, None, None, None]
    assert "is not there, or cannot be listed" in caplog.text and str(tmp_path) not in caplog.text
    assert len(table(out / "slices.csv")) == 3 and is_finished(out)


def test_what_may_pass_is_tried_again_but_not_at_every_look(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    series(folder / "a", HEIGHTS)
    (folder / "a" / "b").mkdir()
    monkeypatch.setattr(watch_module, "RETRY_LOOKS", 3)
    with monkeypatch.context() as patched:
        forbid(folder / "a" / "b", patched)
        reports = watched(tiny_bundle, folder, out, *[nothing] * 6)
    assert [None if r is None else r.reasons for r in reports] == [
        None, {"unreadable": 1}, None, None, {"unreadable": 1}, None, None,
    ]  # fmt: skip


def test_a_folder_that_is_not_there_at_first_is_an_error(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        watch(tiny_bundle, [tmp_path / "none"], tmp_path / "out", OPTIONS, 1)
    assert not (tmp_path / "out").exists()


def test_a_second_run_into_a_watched_folder_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    series(folder, HEIGHTS)

    def another() -> None:
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match="another process is writing this run"):
                score(tiny_bundle, folder, out, overwrite=overwrite)

    watched(tiny_bundle, folder, out, nothing, another)
    assert is_finished(out)


def test_the_command_ends_in_order_when_it_is_interrupted(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder, out = tmp_path / "in", tmp_path / "out"
    series(folder / "DOE^JOHN", HEIGHTS)
    looks = iter([False, True])

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        if next(looks):
            raise KeyboardInterrupt

    monkeypatch.setattr(watch_module.time, "sleep", sleep)
    monkeypatch.setattr(watch_module.watch, "__kwdefaults__", watch.__kwdefaults__ | {"sleep": sleep})
    caplog.set_level(logging.INFO, "dtvit_edge")
    command = ["score", str(tiny_bundle.path), str(folder), "-o", str(out), "--backend", "onnxruntime"]
    assert main([*command, "--watch", "0.5"]) == 130
    assert sorted(os.listdir(out)) == ["journal.jsonl", "run.json", "series.csv", "slices.csv", "studies.csv"]
    said = capsys.readouterr().err + caplog.text
    assert "1 studies, 3 slices scored now, 0 files still being written" in said and "DOE" not in said
    assert main([*command, "--watch", "0.5", "--json"]) == 2


def test_the_command_removes_pages_before_the_results_change(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, begun: Event, **options: object) -> None:
        assert len(os.listdir(tmp_path / "out" / "report")) == 4
        begun()
        assert os.listdir(tmp_path / "out" / "report") == ["notes.txt"]
        raise KeyboardInterrupt

    for name in ("index.html", "index-2.html", "study-1.2.3.html", "notes.txt"):
        (tmp_path / "out" / "report").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / "report" / name).write_text("Not flagged")
    monkeypatch.setattr(watch_module, "watch", interrupted)
    command = ["score", str(tiny_bundle.path), str(tmp_path), "-o", str(tmp_path / "out"), "--watch", "1"]
    assert main([*command, "--json"]) == 2
    assert len(os.listdir(tmp_path / "out" / "report")) == 4
    assert main(command) == 130

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring.lock import FILE_NAME, FolderLock


def test_a_second_process_is_told_who_holds_the_folder_and_since_when(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(ConfigError) as caught, FolderLock(tmp_path):
        pass
    known = f"another process is writing this run: process {os.getpid()} on {re.escape(platform.node())}, since "
    assert re.search(known + r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$", str(caught.value))


def test_nothing_is_left_of_a_lock(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock(tmp_path):
            assert os.listdir(tmp_path) == [FILE_NAME]
        assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"pid":1,"host":"x","since":"2026-01-01T00:00:00+00:00","and":"more"}')
    with FolderLock(tmp_path):
        assert '"pid": ' + str(os.getpid()) in (tmp_path / FILE_NAME).read_text()


@pytest.mark.parametrize(
    "said", ["", "[]", "{", '{"pid":"x"}', "[" * 900, '{"pid":1,"host":"\\u001b[31m","since":"soon"}'], ids=repr
)
def test_a_holder_that_says_nothing_sensible_is_another_process(tmp_path: Path, said: str) -> None:
    with FolderLock(tmp_path):
        (tmp_path / FILE_NAME).write_text(said)
        with pytest.raises(ConfigError, match=r"another process is writing this run$"), FolderLock(tmp_path):
            pass


def test_a_hosts_name_reaches_no_terminal_unescaped(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        said = '{"pid":7,"host":"\\u001b[31mx","since":"2026-01-01T00:00:00+00:00"}'
        (tmp_path / FILE_NAME).write_text(said)
        with pytest.raises(ConfigError, match=r"process 7 on \\x1b\[31mx, since 2026"), FolderLock(tmp_path):
            pass


def test_a_lock_that_its_holder_removed_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_flock = fcntl.flock
    tries: list[int] = []

    def flock(descriptor: int, how: int) -> None:
        if not tries:
            (tmp_path / FILE_NAME).unlink()
        tries.append(descriptor)
        true_flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path):
        assert len(tries) == 2
        with pytest.raises(ConfigError, match="another process"), FolderLock(tmp_path):
            pass


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path):
        pass
    assert "this file system has no locks (No locks available)" in caplog.text


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_lock_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match="cannot be written: "), FolderLock(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()

"""Received objects on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.errors import DiskFault
from dtvit_edge.pacs import inbox as inbox_module
from dtvit_edge.pacs.inbox import Inbox


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    made = Inbox(tmp_path)
    made.open()
    return made


def test_the_very_same_object_is_kept_once_and_another_one_of_its_uid_beside_it(inbox: Inbox) -> None:
    first = inbox.keep("1.2", "1.2.3", b"one")
    digest = inbox.digest("1.2")
    assert first is not None and inbox.keep("1.2", "1.2.3", b"one") is None and inbox.digest("1.2") == digest
    assert inbox.keep("1.2", "1.2.3", b"two") is not None and inbox.digest("1.2") != digest
    assert sorted(p.read_bytes() for p in inbox.files_of("1.2").iterdir()) == [b"one", b"two"]
    assert first.stat().st_mode & 0o777 == 0o640 and first.parent.stat().st_mode & 0o777 == 0o750


def test_an_object_is_on_the_disk_before_it_is_kept(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name, module in (("fsync", os), ("replace", os), ("flush_folder", inbox_module)):
        real: Any = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1])
    inbox.keep("1.2", "1.2.3", b"one")
    assert order[:2] == ["fsync", "replace"] and order.count("flush_folder") == 2


def test_a_full_disk_keeps_nothing_and_leaves_nothing(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(inbox_module, "write_all", full)
        with pytest.raises(DiskFault):
            inbox.keep("1.2", "1.2.3", b"one")
    assert not [p for p in inbox.folder.rglob("*") if p.is_file()] and inbox.digest("1.2") == ""
    assert inbox.keep("1.2", "1.2.3", b"one") is not None


def test_what_a_killed_process_left_half_written_goes_and_the_rest_stays(inbox: Inbox, tmp_path: Path) -> None:
    inbox.keep("1.2", "1.2.3", b"one")
    (tmp_path / "incoming" / "abc").write_bytes(b"half")
    (tmp_path / "incoming" / "removed").mkdir()
    again = Inbox(tmp_path)
    again.open()
    assert not list((tmp_path / "incoming").iterdir()) and again.studies() == ["1.2"]
    again.remove("1.2")
    again.remove("1.2")
    assert again.studies() == [] and again.digest("1.2") == "" and not list((tmp_path / "incoming").iterdir())

"""The service's database: what is frozen stays, and nothing is said twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.pacs.store import PARKED, STORED, WAITING, Store


def test_a_result_and_its_objects_take_hold_together_and_outlive_a_crash(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("1.2", "files", "print", 1, [("2.1", "class", b"report"), ("2.2", "key", b"image")])
    store.became("2.1", WAITING, "0xA700", tried=True)
    again = Store(tmp_path / "db")  # the first one was never closed
    assert [(one.uid, one.tries, one.answer) for one in again.objects()] == [("2.1", 1, "0xA700"), ("2.2", 0, "")]
    assert again.data("2.1") == b"report" and again.device_uid == store.device_uid
    known = again.study("1.2")
    assert known is not None and (known.fingerprint, known.report_uid, known.number) == ("print", "2.1", 1)
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in tmp_path.iterdir())


def test_frozen_bytes_are_never_replaced_by_a_second_result_of_the_same_uid(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    for data in (b"first", b"second"):
        store.put("1.2", "files", "print", 1, [("2.1", "class", data)])
    assert store.data("2.1") == b"first" and store.count(WAITING) == 1


def test_files_go_when_they_are_old_and_nothing_waits_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("1.2", "files", "print", 1, [("2.1", "class", b"report")])
    store.seen("1.3", "files")
    store.grow_older(100)
    assert store.older_than(100) == ["1.3"]
    store.became("2.1", STORED)
    assert store.older_than(101) == [] and sorted(store.older_than(100)) == ["1.2", "1.3"]
    store.gone("1.2")
    assert store.data("2.1") is None and store.older_than(100) == ["1.3"]
    known = store.study("1.2")
    assert known is not None and known.gone and known.fingerprint == "print"
    store.forget(100)
    assert store.study("1.2") is None and store.study("1.3") is not None


def test_a_study_whose_files_were_deleted_stays_one_when_some_come_late_and_those_go_as_well(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("1.2", "files", "print", 1, [("2.1", "class", b"report")])
    store.became("2.1", STORED)
    store.gone("1.2")
    for fails in (False, True):
        if fails:
            store.failed("1.2")
        else:
            store.seen("1.2", "late")  # so that the next late slice says no less than what the PACS has
        known = store.study("1.2")
        assert known is not None and known.gone is True and known.fingerprint == "print"
    store.grow_older(100)
    store.forget(100)
    assert store.older_than(100) == ["1.2"] and store.study("1.2") is not None
    store.gone("1.2")
    assert store.older_than(100) == []
    store.put("1.2", "all", "print", 2, [("2.2", "class", b"report")])
    known = store.study("1.2")
    assert known is not None and not known.gone


def test_files_of_a_study_that_could_not_be_scored_grow_old_too_and_the_next_service_tries_it_again(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "db")
    store.failed("1.2")
    store.grow_older(100)
    store.failed("1.2")
    known = store.study("1.2")
    assert known is not None and not known.files and store.older_than(100) == ["1.2"]


def test_parked_objects_wait_again_only_when_they_are_asked_to(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("1.2", "files", "print", 1, [("2.1", "class", b"report")])
    store.became("2.1", PARKED, "0xC000", tried=True)
    assert (store.count(WAITING), store.count(PARKED)) == (0, 1)
    assert store.unpark() == 1 and store.objects()[0].tries == 0


def test_a_file_that_is_no_database_or_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no database at all, but long enough for one" * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        Store(tmp_path / "text")
    Store(tmp_path / "db").close()
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("UPDATE facts SET value = '99' WHERE name = 'version'")
    with pytest.raises(ConfigError, match="another version"):
        Store(tmp_path / "db")


def test_a_full_disk_is_said_and_nothing_has_taken_hold(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite says of it what it says of a full disk
    with pytest.raises(DiskFault, match="database"):
        store.put("1.2", "files", "print", 1, [("2.1", "class", bytes(1 << 20))])
    assert store.study("1.2") is None and not store.objects()
    store.seen("1.3", "files")

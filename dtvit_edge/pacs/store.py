"""What the service knows and has to send, in SQLite: whole after any crash.

An object's bytes and UID stand here before anything is sent, so that what is sent again is the same instance. Nothing
here names a patient but the objects themselves, whose bytes go with the study's files.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.files import open_file

WAITING, STORED, PARKED = "waiting", "stored", "parked"
_VERSION = 1
# Of a study: its files were deleted; they were, and some have come since, of which alone no result may come.
_GONE, _LATE = 1, 2
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS studies (
  uid TEXT PRIMARY KEY, files TEXT NOT NULL, fingerprint TEXT NOT NULL, report_class TEXT NOT NULL,
  report_uid TEXT NOT NULL, number INTEGER NOT NULL, age REAL NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS objects (
  n INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, study TEXT NOT NULL, class TEXT NOT NULL,
  data BLOB, state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, answer TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS objects_by_state ON objects (state, n);
CREATE INDEX IF NOT EXISTS objects_by_study ON objects (study);
"""


@dataclass(frozen=True)
class KnownStudy:
    """A study that was scored.

    Attributes:
        files: digest of the files that were; fingerprint: of the result, empty where it has no object.
        report_class, report_uid: of the last SR, number: its InstanceNumber, 0 where there is none.
        gone: its files were deleted since, whether or not some came again.
    """

    uid: str
    files: str
    fingerprint: str
    report_class: str
    report_uid: str
    number: int
    gone: bool


@dataclass(frozen=True)
class OutgoingObject:
    """An object, without its bytes.

    Attributes:
        tries: how often a peer refused it; answer: what it said last.
    """

    uid: str
    study_uid: str
    sop_class: str
    state: str
    tries: int
    answer: str


class Store:
    """The service's one database; any thread may call."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            os.close(open_file(path, os.O_RDWR | os.O_CREAT))  # with our mode, which SQLite's own files take over
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_TABLES)
            version = self._fact("version", str(_VERSION))
            self.device_uid = self._fact("device", f"2.25.{uuid.uuid4().int}")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"{path.name} cannot be used: {error}; it is the service's memory of what it sent"
            ) from error
        if version != str(_VERSION):
            raise ConfigError(f"{path.name} was written by another version of this program; give another folder")

    def close(self) -> None:
        """Close it; nothing is lost where this is not called."""
        with self._lock:
            self._connection.close()

    def study(self, uid: str) -> KnownStudy | None:
        """What is known of a study."""
        rows = self._ask(
            "SELECT uid, files, fingerprint, report_class, report_uid, number, gone FROM studies WHERE uid = ?", uid
        )
        if not rows:
            return None
        known = KnownStudy(*rows[0])
        return replace(known, gone=bool(known.gone))

    def seen(self, uid: str, files: str) -> None:
        """A study was scored, and there is nothing new to say."""
        with self._transaction() as do:
            do("INSERT INTO studies VALUES (?, ?, '', '', '', 0, 0, 0) "
               "ON CONFLICT (uid) DO UPDATE SET files = excluded.files, age = 0, "
               "gone = CASE gone WHEN 0 THEN 0 ELSE ? END",
               (uid, files, _LATE))  # fmt: skip

    def failed(self, uid: str) -> None:
        """A study could not be scored: its files grow old as those of others, and the next service tries it again."""
        with self._transaction() as do:
            do("INSERT INTO studies VALUES (?, '', '', '', '', 0, 0, 0) "
               "ON CONFLICT (uid) DO UPDATE SET files = '', gone = CASE gone WHEN 0 THEN 0 ELSE ? END",
               (uid, _LATE))  # fmt: skip

    def put(
        self, uid: str, files: str, fingerprint: str, number: int, objects: Sequence[tuple[str, str, bytes]]
    ) -> None:
        """A study has a new result: at once its objects wait to be sent.

        Args:
            objects: UID, SOP class and bytes; the SR first.
        """
        report_uid, report_class, _ = objects[0]
        with self._transaction() as do:
            do("INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
               (uid, files, fingerprint, report_class, report_uid, number))  # fmt: skip
            for object_uid, sop_class, data in objects:
                do("INSERT OR IGNORE INTO objects (uid, study, class, data, state) VALUES (?, ?, ?, ?, ?)",
                   (object_uid, uid, sop_class, data, WAITING))  # fmt: skip

    def objects(self, state: str = WAITING) -> list[OutgoingObject]:
        """Objects in a state, in the order in which they were made."""
        rows = self._ask(
            "SELECT uid, study, class, state, tries, answer FROM objects WHERE state = ? ORDER BY n", state
        )
        return [OutgoingObject(*row) for row in rows]

    def objects_of(self, study_uid: str) -> list[OutgoingObject]:
        """All objects of a study, in the order in which they were made."""
        rows = self._ask(
            "SELECT uid, study, class, state, tries, answer FROM objects WHERE study = ? ORDER BY n", study_uid
        )
        return [OutgoingObject(*row) for row in rows]

    def count(self, state: str) -> int:
        """How many objects are in a state."""
        return int(self._ask("SELECT count(*) FROM objects WHERE state = ?", state)[0][0])

    def data(self, uid: str) -> bytes | None:
        """An object's bytes; None once they are deleted."""
        rows = self._ask("SELECT data FROM objects WHERE uid = ?", uid)
        return rows[0][0] if rows else None

    def became(self, uid: str, state: str, answer: str = "", *, tried: bool = False) -> None:
        """An object is in another state, or was refused once more."""
        with self._transaction() as do:
            do("UPDATE objects SET state = ?, answer = ?, tries = tries + ? WHERE uid = ?",
               (state, answer, int(tried), uid))  # fmt: skip

    def reclassed(self, uid: str, sop_class: str, data: bytes) -> None:
        """An object that no peer has taken goes out under another class."""
        with self._transaction() as do:
            do("UPDATE objects SET class = ?, data = ? WHERE uid = ?", (sop_class, data, uid))
            do("UPDATE studies SET report_class = ? WHERE report_uid = ?", (sop_class, uid))

    def unpark(self) -> int:
        """Parked objects wait again; how many."""
        with self._transaction() as do:
            return int(do("UPDATE objects SET state = ?, tries = 0 WHERE state = ?", (WAITING, PARKED)).rowcount)

    def grow_older(self, seconds: float) -> None:
        """So long the service has run since: ages are its own time, so that no clock that is set deletes anything."""
        with self._transaction() as do:
            do("UPDATE studies SET age = age + ?", (seconds,))

    def older_than(self, seconds: float) -> list[str]:
        """Studies whose files are old enough to go, and of which nothing waits to be sent."""
        rows = self._ask(
            "SELECT uid FROM studies WHERE age >= ? AND gone != ? "
            "AND NOT EXISTS (SELECT 1 FROM objects WHERE study = studies.uid AND state = 'waiting')", seconds, _GONE,
        )  # fmt: skip
        return [row[0] for row in rows]

    def gone(self, uid: str) -> None:
        """A study's files were deleted: the bytes of its objects go, and what they were called stays."""
        with self._transaction() as do:
            do("UPDATE studies SET gone = ? WHERE uid = ?", (_GONE, uid))
            do("UPDATE objects SET data = NULL WHERE study = ? AND state = ?", (uid, STORED))

    def forget(self, seconds: float) -> None:
        """Forget studies that went so long ago that nobody sends them again."""
        with self._transaction() as do:
            do("DELETE FROM objects WHERE state = 'stored' AND study IN "
               "(SELECT uid FROM studies WHERE gone = ? AND age >= ?)", (_GONE, seconds))  # fmt: skip
            do("DELETE FROM studies WHERE gone = ? AND age >= ? "
               "AND NOT EXISTS (SELECT 1 FROM objects WHERE study = studies.uid)", (_GONE, seconds))  # fmt: skip

    def _fact(self, name: str, value: str) -> str:
        self._connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
        return str(self._ask("SELECT value FROM facts WHERE name = ?", name)[0][0])

    def _ask(self, question: str, *values: Any) -> list[Any]:
        with self._lock, _as_disk_fault():
            return self._connection.execute(question, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Statements that take hold together, on the disk when this ends.

        Raises:
            DiskFault: the disk is full or broken; nothing has taken hold.
        """
        with self._lock, _as_disk_fault():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


@contextmanager
def _as_disk_fault() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise DiskFault(f"the disk failed at the service's database: {error}") from error

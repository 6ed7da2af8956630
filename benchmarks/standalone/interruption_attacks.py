"""The attacks of `interruptions`, one function a kind; each ends with the same command and looks at what it left."""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from benchmarks.standalone.processes import children_of, end, still_there
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.result_files import is_finished
from dtvit_edge.scoring.run import SLICES, STUDIES, run
from dtvit_edge.spec import digest_json

JOURNAL = "journal.jsonl"
BACKEND, BATCH = "onnxruntime", 4
LONGEST_S = 300.0
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
WAYS = (*SIGNALS, "children", "both")


class Outcome(str, Enum):
    """What an attack led to."""

    SAME = "the same bytes"
    SAID = "the same bytes, and said"
    REFUSED = "refused in words"
    FOUND_DONE = "over before the attack"
    SILENT = "damage used in silence"
    DIFFERENT = "other bytes"
    HALF = "a file half written"
    TRACEBACK = "a traceback"
    STATUS = "another exit status"
    LEFT = "processes left"

    def __str__(self) -> str:
        return self.value

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        return self in (Outcome.SAME, Outcome.SAID, Outcome.REFUSED, Outcome.FOUND_DONE)


@dataclass(frozen=True)
class Attack:
    """One attack: its name, its kind in the table, and what came of it; `detail` repeats what a run said."""

    name: str
    kind: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class Scored:
    """What is attacked.

    Attributes:
        folder: to work in.
        files: what an undisturbed run writes; status: how it ends; seconds: its time.
        journal: of that run.
    """

    bundle: Path
    studies: Path
    folder: Path
    files: dict[str, bytes]
    journal: bytes
    status: int
    seconds: float

    @classmethod
    def undisturbed(cls, bundle: Path, studies: Path, folder: Path) -> Scored:
        """Run once without an attack."""
        out = folder / "undisturbed"
        shutil.rmtree(out, ignore_errors=True)
        begun = time.monotonic()
        done = subprocess.run(command(bundle, studies, out), capture_output=True, text=True, timeout=LONGEST_S)
        seconds = time.monotonic() - begun
        if done.returncode not in (0, 3):
            raise DtvitError(f"the undisturbed run ended with status {done.returncode}: {done.stderr[-300:]}")
        return cls(bundle, studies, folder, results(out), (out / JOURNAL).read_bytes(), done.returncode, seconds)

    @property
    def digest(self) -> str:
        """Of the result files."""
        return digest_json({name: data.hex() for name, data in self.files.items()})

    def again(self, out: Path) -> tuple[Outcome, str]:
        """The same command, to its end."""
        done = subprocess.run(self.command(out), capture_output=True, text=True, timeout=LONGEST_S)
        if "Traceback" in done.stderr or done.returncode == 6:
            return Outcome.TRACEBACK, done.stderr[-500:]
        if done.returncode != self.status:
            return Outcome.STATUS, f"{done.returncode} {done.stderr[-300:]}"
        return (Outcome.SAME, done.stderr) if results(out) == self.files else (Outcome.DIFFERENT, done.stderr[-300:])

    def command(self, out: Path) -> list[str]:
        """Of a run into a folder."""
        return command(self.bundle, self.studies, out)

    def whole(self, out: Path) -> bool:
        """Whether the result files are those of an undisturbed run, or have some of their lines and look unfinished."""
        found = results(out)
        if is_finished(out):
            return found == self.files
        return all(
            data.endswith(b"\n") and set(data.splitlines()) <= set(self.files[name].splitlines())
            for name, data in found.items()
        )


def command(bundle: Path, studies: Path, out: Path) -> list[str]:
    """A run in words."""
    options = ["--backend", BACKEND, "--batch", str(BATCH), "--threads", "1", "--workers", "2"]
    return [sys.executable, "-m", "dtvit_edge", "-q", "score", str(bundle), str(studies), "-o", str(out), *options]


def results(out: Path) -> dict[str, bytes]:
    """The result files that are there."""
    return {name: (out / name).read_bytes() for name in (SLICES, STUDIES) if (out / name).is_file()}


def kill(scored: Scored, seed: int, number: int) -> Attack:
    """End a run, its children or both at a random time of it."""
    draw = random.Random(f"{seed} kill {number}")
    way, lines = WAYS[number % len(WAYS)], draw.randrange(scored.journal.count(b"\n") + 1)
    name, kind = f"kill {number}", f"kill: {way}"
    out = fresh(scored.folder / "killed")
    process = subprocess.Popen(scored.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _wait_for_lines(out / JOURNAL, lines, process)
    time.sleep(draw.uniform(0, scored.seconds / (20 if lines else 2)))
    children = children_of(process.pid)
    over = process.poll() is not None
    for child in children if way in ("children", "both") else ():
        end(child, signal.SIGKILL)
    if way != "children":
        end(process.pid, SIGNALS.get(way, signal.SIGKILL))
    stderr = process.communicate(timeout=LONGEST_S)[1]
    detail = f"after {lines} lines: status {process.returncode}: {stderr[-500:]}"
    if left := still_there(children):
        return Attack(name, kind, Outcome.LEFT, f"{len(left)} processes; {detail}")
    if "Traceback" in stderr or process.returncode == 6:
        return Attack(name, kind, Outcome.TRACEBACK, detail)
    if not scored.whole(out):
        # A lost decoder is a row and status 3, which the same command mends.
        if way != "children":
            return Attack(name, kind, Outcome.HALF, detail)
        if process.returncode != 3:
            return Attack(name, kind, Outcome.SILENT, detail)
    # Python installs no handler before it runs: what is killed that early has written nothing.
    early = process.returncode == -SIGNALS.get(way, 0) and not out.exists()
    if way in ("SIGTERM", "SIGHUP") and not over and not early and process.returncode not in (130, scored.status):
        return Attack(name, kind, Outcome.STATUS, detail)
    outcome, said = scored.again(out)
    if outcome is Outcome.SAME and (over or (way == "children" and not children)):
        outcome = Outcome.FOUND_DONE
    return Attack(name, kind, outcome, "" if outcome.is_good else f"{detail}; then {said}")


def _wait_for_lines(journal: Path, lines: int, process: subprocess.Popen[str]) -> None:
    """Until a run has written so many lines or is over: times would mean other moments on a machine with other work."""
    while process.poll() is None and lines and not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
        time.sleep(0.002)


def mutate(scored: Scored, seed: int, number: int) -> Attack:
    """Change a byte of a finished run's journal, and run again in this process."""
    draw = random.Random(f"{seed} mutation {number}")
    at = draw.randrange(len(scored.journal))
    byte = draw.choice([byte for byte in range(256) if byte != scored.journal[at]])
    name, kind, detail = f"mutation {number}", "mutation of the journal", f"byte {at} becomes {byte}"
    out = fresh(scored.folder / "mutated")
    out.mkdir()
    damaged = scored.journal[:at] + bytes([byte]) + scored.journal[at + 1 :]
    (out / JOURNAL).write_bytes(damaged)
    with _said() as said:
        try:
            chosen = Options(backend=BACKEND, batch=BATCH, threads=1, workers=2)
            run(Bundle.open(scored.bundle), [scored.studies], out, chosen)
        except DtvitError as error:
            kept = (out / JOURNAL).read_bytes() == damaged and not results(out)
            return Attack(name, kind, Outcome.REFUSED if kept else Outcome.HALF, f"{detail}: {error}")
        except Exception as error:
            return Attack(name, kind, Outcome.TRACEBACK, f"{detail}: {type(error).__name__}: {error}")
    if results(out) != scored.files:
        return Attack(name, kind, Outcome.DIFFERENT, detail)
    if at == len(scored.journal) - 1:  # without its end the last line is one of a killed run, which needs no words
        return Attack(name, kind, Outcome.SAME, detail)
    return Attack(name, kind, Outcome.SAID if said else Outcome.SILENT, detail)


def fill_disk(scored: Scored, seed: int, number: int) -> Attack:
    """Let a run meet the end of its disk at a random size, then give it room."""
    draw = random.Random(f"{seed} full disk {number}")
    needed = len(scored.journal) + sum(map(len, scored.files.values()))
    size = draw.randrange(needed) // 4096 * 4096
    name = f"full disk {number}"
    out = fresh(scored.folder / "full")
    with small_disk(out, size) as (kind, limit, grow):
        first = subprocess.run(
            scored.command(out / "out"), capture_output=True, text=True, timeout=LONGEST_S, preexec_fn=limit
        )
        detail = f"{size} bytes: status {first.returncode}: {first.stderr[-500:]}"
        if "Traceback" in first.stderr or first.returncode == 6:
            return Attack(name, kind, Outcome.TRACEBACK, detail)
        if not scored.whole(out / "out"):
            return Attack(name, kind, Outcome.HALF, detail)
        if first.returncode not in (2, 5, scored.status):
            return Attack(name, kind, Outcome.STATUS, detail)
        if first.returncode != scored.status and "error: " not in first.stderr:
            return Attack(name, kind, Outcome.SILENT, detail)
        grow()
        outcome, said = scored.again(out / "out")
    if outcome is Outcome.SAME:
        outcome = Outcome.FOUND_DONE if first.returncode == scored.status else Outcome.SAID
    return Attack(name, kind, outcome, detail if outcome.is_good else f"{detail}; then {said}")


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[tuple[str, Callable[[], None] | None, Callable[[], object]]]:
    """A file system of so many bytes where one may be mounted (Linux, root), else files of that size at most.

    Yields:
        What it is called, what limits a child, and what gives more room.
    """
    path.mkdir()
    # Zero is no limit to mount(8), so that a page is the least.
    options = f"size={max(size, 4096)}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        yield "full disk: RLIMIT_FSIZE", lambda: _limit_files(size), lambda: None
        return
    try:
        more = ["mount", "-o", "remount,size=64m", str(path)]
        yield "full disk: a small tmpfs", None, lambda: subprocess.run(more, check=True)
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fresh(folder: Path) -> Path:
    """A name under which nothing is."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@contextmanager
def _said() -> Iterator[list[str]]:
    """What is logged as a warning meanwhile, of the journal."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: Any) -> None:
            if "journal" in record.getMessage():
                said.append(record.getMessage())

    listener, logger = Listener(logging.WARNING), logging.getLogger("dtvit_edge.scoring.journal")
    before, threshold = (logger.level, logger.disabled), logging.root.manager.disable
    # Another library in this process may have turned off warnings, or all loggers that it did not make.
    logger.setLevel(logging.WARNING)
    logger.disabled = False
    logging.disable(logging.NOTSET)
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logging.disable(threshold)
        logger.level, logger.disabled = before

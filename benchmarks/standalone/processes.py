"""Processes that another one started: who they are, and whether they have ended (Linux, proc(5))."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

# So long after its run was told to end or was killed: a decoder ends with its pipe.
GONE_AFTER_S = 10.0


def children_of(pid: int) -> list[tuple[int, str]]:
    """Processes that a process started, by id and time of start (Linux, proc(5))."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(stat.parent.name), fields[19]))
    return found


def still_there(processes: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Those that have not ended after a while; a zombie has."""
    deadline = time.monotonic() + GONE_AFTER_S
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _runs(process: tuple[int, str]) -> bool:
    try:
        fields = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == process[1] and fields[0] not in "ZX"


def end(process: int | tuple[int, str], number: int) -> None:
    """Send a signal, unless the process has ended."""
    if isinstance(process, tuple):
        if not _runs(process):
            return
        process = process[0]
    with suppress(ProcessLookupError):
        os.kill(process, number)

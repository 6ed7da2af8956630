"""A command as a process of its own, with what the kernel counted of it: seconds and peak memory.

The command is started by a small process (this file as a script), not by the caller: Linux carries the starter's own
resident memory over into the child's `ru_maxrss`, and a caller that holds models would be all that is seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True)
class Ended:
    """A process that ended.

    Attributes:
        status: its exit status, negative where a signal ended it.
        stdout, stderr: what it printed.
        seconds: from before it was started until it was gone.
        peak_bytes: the most memory that was resident at once (`ru_maxrss`, which Linux counts in KiB).
    """

    status: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int


def run(command: Sequence[str], *, keep_stderr: bool = True) -> Ended:
    """Run a command to its end.

    Args:
        keep_stderr: False lets it through to this process's own, for commands that show progress.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__, str(told), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keep_stderr else None,
            check=True,
        )
        found = json.loads(told.read_text(encoding="ascii"))
    stderr = done.stderr.decode(errors="replace") if keep_stderr else ""
    return Ended(stdout=done.stdout.decode(errors="replace"), stderr=stderr, **found)


def main(told: str, *command: str) -> None:
    """Start the command, wait, and write what it took."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    found = {"status": process.returncode, "seconds": seconds, "peak_bytes": usage.ru_maxrss * _KIB}
    Path(told).write_text(json.dumps(found), encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])

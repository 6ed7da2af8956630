"""A command as a separate process, with what the kernel counted of it: seconds, CPU seconds and peak memory.

The command is started by a small process (this file as a script), not by the caller: Linux carries the starter's
resident memory over into the child's `ru_maxrss`, and a caller that holds models would be all that is seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True)
class FinishedProcess:
    """A process that ended.

    Attributes:
        status: its exit status, negative where a signal ended it.
        stdout, stderr: what it printed.
        seconds: from before it was started until it was gone.
        cpu_seconds: that it and those that it waited for computed, in user and system mode together.
        peak_bytes: the most memory that was resident at once (`ru_maxrss`, which Linux counts in KiB).
    """

    status: int
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> FinishedProcess:
    """Run a command to its end.

    Args:
        environment: its variables; None are those of this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        usage_file = Path(folder) / "usage.json"
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__, str(usage_file), *command],
            capture_output=True,
            check=True,
            env=environment,
        )
        usage = json.loads(usage_file.read_text(encoding="ascii"))
    stdout, stderr = (data.decode(errors="replace") for data in (done.stdout, done.stderr))
    return FinishedProcess(stdout=stdout, stderr=stderr, **usage)


def main(usage_file: str, *command: str) -> None:
    """Start the command, wait, and write what it took."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    outcome = {
        "status": process.returncode,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * _KIB,
    }
    Path(usage_file).write_text(json.dumps(outcome), encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])

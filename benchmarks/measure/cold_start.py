"""Cold start and memory: `dtvit-edge score` on one slice, as a separate process, from its start to its results.

Files come from the page cache; starting Python and importing the backend are part of it, as they are for a user. So is
Python's byte code, which pip writes and the first process here: without it each start would compile this package, for
0.1 s and more.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import child_process
from benchmarks.measure.configurations import Configuration
from dtvit_edge.errors import VerdictError

INSIDE_TIMER = "a whole process `dtvit-edge score BUNDLE SLICE -o OUT`, files in the page cache"
NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True)
class ColdStart:
    """Processes of one configuration.

    Attributes:
        seconds: from the start of the process to its end; cpu_seconds: that it computed, on which other work on the
            machine falls less.
        peak_bytes: the most resident memory.
    """

    seconds: list[float]
    cpu_seconds: list[float]
    peak_bytes: list[int]


def environment() -> dict[str, str]:
    """What a started process gets: this one's variables, but for the one that keeps byte code from the disk."""
    return {name: value for name, value in os.environ.items() if name != NO_BYTE_CODE}


def measure(
    configuration: Configuration, file: Path, count: int, threads: int | None, mark: Callable[[], None] = lambda: None
) -> ColdStart:
    """Start that many processes, one after the other, after one that only fills the page cache.

    Args:
        mark: called before each that counts.

    Raises:
        VerdictError: the command did not score the slice.
    """
    counted = []
    for i in range(count + 1):
        if i:
            mark()
        with tempfile.TemporaryDirectory() as folder:
            ended = child_process.run(command(configuration, file, Path(folder) / "out", threads), environment())
        if ended.status != 0:
            last = ended.stderr.strip().splitlines()[-1:] or [""]
            raise VerdictError(f"{configuration.name}: `dtvit-edge score` ended with {ended.status}: {last[0]}")
        if i:
            counted.append(ended)
    return ColdStart(
        [one.seconds for one in counted], [one.cpu_seconds for one in counted], [one.peak_bytes for one in counted]
    )


def command(configuration: Configuration, file: Path, out: Path, threads: int | None) -> list[str]:
    """The line that scores one file; it keeps slices that show no brain, so that there is a result."""
    words = [
        sys.executable,
        "-m",
        "dtvit_edge",
        "-q",
        "score",
        str(configuration.bundle.path),
        str(file),
        "-o",
        str(out),
    ]
    words += ["--backend", configuration.backend, "--precision", configuration.precision, "--any-series", "--keep-all"]
    words += ["--hint", configuration.hint] if configuration.hint else []
    # The process opens anew what was opened under the options of this one.
    words += ["--expect-digest", configuration.bundle.digest]
    words += [word for plan in sorted(configuration.bundle.accepted_engines) for word in ("--accept-engine", plan)]
    used_threads = configuration.options(threads).threads
    return words + (["--threads", str(used_threads)] if used_threads else [])

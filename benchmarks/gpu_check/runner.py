"""The parent's side: each stage in a process group of its own with a time limit; how it ended becomes a record."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu_check.settings import LOGS, ROOT, Settings
from benchmarks.gpu_check.stages import NOT_HERE_STATUS, PYTORCH, Stage
from dtvit_edge.files import open_file
from evaluation.records import Record, append

WHAT_END = "gpu-check: how a stage ended"
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
_LAST_LINES, _LAST_CHARACTERS = 6, 600


@dataclass(frozen=True)
class End:
    """How a stage ended.

    Attributes:
        outcome: `PASSED`, `FAILED` or `NOT_RUN`.
        status: of its process, negative where a signal ended it; None where none was started.
        why: in words; empty where it passed.
        log: its name below the output folder.
    """

    stage: str
    outcome: str
    status: int | None
    seconds: float
    why: str = ""
    log: str = ""


def run_stages(
    settings: Settings, chosen: Sequence[Stage], say: Callable[[str], None], *, budget_s: float | None = None
) -> list[End]:
    """Run stages one after the other; the record of each end is there before the next begins.

    Args:
        say: told what begins and how it ended.
        budget_s: for all of them; what does not fit is recorded as not run.
    """
    settings.write()
    deadline = None if budget_s is None else time.monotonic() + budget_s
    ends = []
    for stage in chosen:
        left = stage.limit_s if deadline is None else min(stage.limit_s, deadline - time.monotonic())
        if left <= 0:
            end = End(stage.name, NOT_RUN, None, 0.0, "the time for all stages was over")
        else:
            say(f"{stage.name}: at most {left:.0f} s")
            end = _run(settings, stage, left)
        append(settings.records, _record(end, stage))
        ends.append(end)
        say(f"{stage.name}: {end.outcome}{f': {end.why}' if end.why else ''} ({end.seconds:.1f} s)")
    return ends


def _run(settings: Settings, stage: Stage, limit_s: float) -> End:
    log = settings.folder / LOGS / f"{stage.name}.log"
    environment = dict(os.environ)
    if stage.name == PYTORCH:
        # Another interpreter must not find this one's packages and libraries.
        for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"):
            environment.pop(name, None)
    start = time.monotonic()
    timed_out = False
    with open(open_file(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as output:
        try:
            process = subprocess.Popen(
                _command(settings, stage), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return End(stage.name, FAILED, None, 0.0, f"it does not start: {error}", _name(log))
        try:
            status = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end_group(process)  # on Ctrl-C too, and whatever the stage itself has started
        status = process.wait()
    seconds = time.monotonic() - start
    if timed_out:
        return End(
            stage.name, FAILED, status, seconds, _with_words(f"timed out after {limit_s:.0f} s", log), _name(log)
        )
    if status == 0:
        return End(stage.name, PASSED, status, seconds, log=_name(log))
    if status == NOT_HERE_STATUS:
        return End(stage.name, NOT_RUN, status, seconds, _last_words(log), _name(log))
    how = f"ended with status {status}" if status > 0 else f"killed by {_signal(-status)}"
    return End(stage.name, FAILED, status, seconds, _with_words(how, log), _name(log))


def _command(settings: Settings, stage: Stage) -> list[str]:
    if stage.name == PYTORCH:
        assert settings.pytorch_python
        return [settings.pytorch_python, "-u", "-m", "benchmarks.gpu_check.pytorch", str(settings.file)]
    return [*settings.boot, str(settings.file), stage.name]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the stage and what it has started: a builder that lives on would hold the GPU's memory."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _record(end: End, stage: Stage) -> Record:
    told = {"stage": end.stage, "outcome": end.outcome, "why": end.why, "log": end.log, "proves": stage.proves}
    summary = {} if end.status is None else {"status": float(end.status)}
    return Record(WHAT_END, "s", {"seconds": [end.seconds]}, summary, options=told | {"limit_s": stage.limit_s})


def _with_words(how: str, log: Path) -> str:
    words = _last_words(log)
    return f"{how}: {words}" if words else how


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])[-_LAST_CHARACTERS:]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _name(log: Path) -> str:
    return f"{LOGS}/{log.name}"

"""The parent's side: a fresh interpreter for whatever touches TensorRT, so that its death is an error in words."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dtvit_edge import errors
from dtvit_edge.errors import BuildError, BuildKilled, DtvitError
from dtvit_edge.trt.child import RESULT

# A new interpreter, not a fork: neither a CUDA context nor threads come along. Its path is this process's: `-c` alone
# would take the working directory's files for modules.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from dtvit_edge.trt.child import main; main(sys.argv[1])"
_TAIL_LINES = 12
_SAY_EVERY_S = 30.0

logger = logging.getLogger(__name__)


def run(task: str, flavour: str, arguments: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run one of `dtvit_edge.trt.child`'s tasks in a process of its own and wait for it.

    Args:
        scratch: an existing folder for the request, its result and its log; the caller removes it.

    Returns:
        The task's result.

    Raises:
        DtvitError: the error that the child raised, of the same type.
        BuildKilled: the child was killed, crashed or ended without a result; with the signal and its last lines.
        BuildError: the child raised something that it should not.
    """
    request, log = scratch / f"{task}.json", scratch / f"{task}.log"
    request.write_text(json.dumps({"task": task, "flavour": flavour, "arguments": arguments}), encoding="utf-8")
    result = scratch / RESULT
    result.unlink(missing_ok=True)
    command = [sys.executable, "-c", _BOOT, str(request), *map(os.path.abspath, sys.path)]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        try:
            status = _wait(child, task)
        except BaseException:
            child.kill()  # an interrupted build leaves no process behind
            raise
    if status != 0 or not result.is_file():
        raise BuildKilled(f"{_ending(status)}{_tail(log)}")
    answer = json.loads(result.read_text(encoding="utf-8"))
    if "done" in answer:
        return dict(answer["done"])
    kind = getattr(errors, answer["error"], None)
    if isinstance(kind, type) and issubclass(kind, DtvitError):
        raise kind(answer["message"])
    raise BuildError(f"building failed: {answer['message']}{_tail(log)}")


def _wait(child: subprocess.Popen[bytes], task: str) -> int:
    start = time.monotonic()
    while True:
        try:
            return child.wait(timeout=_SAY_EVERY_S)
        except subprocess.TimeoutExpired:
            logger.info("%s: %d s so far", task, time.monotonic() - start)


def _ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"the building process ended with status {status} and no result"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if name == "SIGKILL":
        return (
            "the building process was killed (SIGKILL), most often because memory ran out: "
            "free some, or give a smaller --workspace or --max-batch"
        )
    return f"the building process crashed ({name})"


def _tail(log: Path) -> str:
    """The last lines that the child left, for the message."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return "; its last lines:\n  " + "\n  ".join(lines) if lines else ""

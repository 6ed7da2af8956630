"""The child process's side: one request in, one result out, as JSON files.

What TensorRT does to a process (abort, a segmentation fault, being killed for its memory) stays here.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dtvit_edge.cuda import driver
from dtvit_edge.environment import peak_memory
from dtvit_edge.errors import DtvitError
from dtvit_edge.trt import builder, library

RESULT = "result.json"


def main(request_file: str) -> None:
    """Run a request file's task; write `result.json` beside it: {"done": ...} or {"error": name, "message": ...}."""
    path = Path(request_file)
    request = json.loads(path.read_text(encoding="utf-8"))
    result: dict[str, Any]
    try:
        result = {"done": _TASKS[request["task"]](request["flavour"], request["arguments"])}
    except DtvitError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        result = {"error": "crash", "message": f"{type(error).__name__}: {error}"}
    part = path.with_name(RESULT + ".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace(path.with_name(RESULT))


def _probe(flavour: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The library's version and, if `find_gpu`, GPU `device` (0): None where there is none, or nobody asks."""
    _, release = library.load(flavour)
    gpu = driver.find(arguments.get("device", 0)) if arguments["find_gpu"] else None
    return {"version": release.text, "gpu": asdict(gpu) if gpu else None}


def _build(flavour: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as `builder.BuildJob`; the result as `builder.BuildResult` and the peak of this process's memory."""
    job = builder.BuildJob(**arguments | {"capabilities": tuple(arguments["capabilities"])})
    if not job.capabilities:
        driver.make_current(job.device)  # before the library loads: it takes the GPU that is current
    trt, release = library.load(flavour)
    gpu = None if job.capabilities else driver.find(job.device)
    built = builder.build(trt, release, job, gpu, builder.Log())
    return asdict(built) | {"peak_memory_bytes": peak_memory()}


_TASKS = {"probe": _probe, "build": _build}

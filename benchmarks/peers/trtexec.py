"""NVIDIA's trtexec: the line that builds and times a bundle's graph, and the times that it gives where it is installed.

trtexec runs as a separate process, so that it cannot alternate with the other contenders.

Inside its timer, `latencyMs`: the copy of one batch to the device, the engine, and the copy of the logits back, between
CUDA events; no preprocessing. From TensorRT 11 on trtexec leaves the copies out unless it is asked
(`--includeDataTransfers`), waits spinning and replays a CUDA graph without being asked; before, it launches each layer.
TF32 is off as in this project's engines (`--noTF32`), and the shapes are those of its profiles: one for batch 1 alone,
one for 1 to the largest batch that is tuned for the largest.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import INPUT_NAME

NAME = "trtexec"
FIELD = "latencyMs"
# Typed graphs, which TensorRT 10 and newer take as they are; fp32 needs no flag.
GRAPHS = {"fp32": (), "fp16": ("--stronglyTyped",), "int8-fp16": ("--stronglyTyped",)}
# Since TensorRT 11; older releases copy without being asked and refuse the flag.
COPIES = "--includeDataTransfers"
WARM_UP_MS = 500
_HELP_S = 60.0


def why_not() -> str | None:
    """Why it cannot run here, or None."""
    return None if shutil.which(NAME) else "trtexec is not on the path (it comes with TensorRT)"


def command(
    bundle: Bundle, precision: str, max_batch: int, *, batch: int = 1, folder: str | None = None, copies: bool = False
) -> list[str]:
    """The line that times a graph at a batch size, with the profile that this project's engines have for it.

    Args:
        max_batch: of the engine.
        batch: 1, or a larger one up to `max_batch`.
        folder: written in place of the bundle's folder, which could carry a name.
        copies: ask for the copies by name, as TensorRT 11 wants it.
    """
    spec = bundle.manifest.spec
    file = bundle.manifest.models[precision].file
    best = 1 if batch == 1 else max_batch
    shapes = {"min": 1, "opt": best, "max": best}
    slice_ = f"{spec.channels}x{spec.crop}x{spec.crop}"
    return [
        NAME,
        f"--onnx={folder or bundle.path}/{file}",
        *GRAPHS[precision],
        "--noTF32",
        *(f"--{name}Shapes={INPUT_NAME}:{count}x{slice_}" for name, count in shapes.items()),
        f"--shapes={INPUT_NAME}:{batch}x{slice_}",
        *((COPIES,) if copies else ()),
        "--useSpinWait",
        f"--warmUp={WARM_UP_MS}",
    ]


def lines(bundle: Bundle, max_batch: int) -> list[str]:
    """The line of every graph that the bundle has for it, at batch 1 and at the largest, for the trtexec that is here.

    Where none is here they are for TensorRT 10; from 11 on `COPIES` has to be added.
    """
    copies = asks_for_copies()
    return [
        shlex.join(command(bundle, precision, max_batch, batch=batch, folder=bundle.path.name, copies=copies))
        for precision in GRAPHS
        if precision in bundle.manifest.models
        for batch in sorted({1, max_batch})
    ]


def asks_for_copies() -> bool:
    """True where the trtexec of this machine times no copies unless it is asked: its help text names the flag."""
    if why_not() is not None:
        return False
    try:
        said = subprocess.run([NAME, "--help"], capture_output=True, text=True, timeout=_HELP_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return COPIES in said.stdout + said.stderr


def measure(
    bundle: Bundle, precision: str, max_batch: int, timeout_s: float = 1800.0, *, batch: int = 1
) -> list[float]:
    """Milliseconds of every query of `batch` slices that trtexec timed; see the module for what is inside.

    Raises:
        VerdictError: it failed, with its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        asked = command(bundle, precision, max_batch, batch=batch, copies=asks_for_copies())
        words = [*asked, f"--exportTimes={times}"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise VerdictError(f"trtexec, {precision}: not done after {timeout_s:.0f} s") from error
        if done.returncode or not times.is_file():
            last = (done.stdout + done.stderr).strip().splitlines()[-1:] or [""]
            raise VerdictError(f"trtexec, {precision}: ended with {done.returncode}: {last[0]}")
        return read_times(times)


def read_times(file: Path) -> list[float]:
    """`latencyMs` of every query in what `--exportTimes` wrote.

    Raises:
        VerdictError: another format.
    """
    try:
        return [float(query[FIELD]) for query in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise VerdictError(f"trtexec's times have no {FIELD}: {type(error).__name__}") from error

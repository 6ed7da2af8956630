"""NVIDIA's trtexec: the line that builds and times a bundle's graph, and the times that it gives where it is installed.

trtexec runs as a separate process, so that it cannot alternate with the other contenders. `latencyMs` is its copy in,
compute and copy out of one query; releases before 10 had the same fields by the same names.
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
WARM_UP_MS = 500


def why_not() -> str | None:
    """Why it cannot run here, or None."""
    return None if shutil.which(NAME) else "trtexec is not on the path (it comes with TensorRT)"


def command(bundle: Bundle, precision: str, max_batch: int, *, folder: str | None = None) -> list[str]:
    """The line that times a graph at batch 1 with an engine for batches up to `max_batch`.

    Args:
        folder: written in place of the bundle's folder, which could carry a name.
    """
    spec = bundle.manifest.spec
    file = bundle.manifest.models[precision].file
    shape = f"{spec.channels}x{spec.crop}x{spec.crop}"
    return [
        NAME,
        f"--onnx={folder or bundle.path}/{file}",
        *GRAPHS[precision],
        f"--minShapes={INPUT_NAME}:1x{shape}",
        f"--optShapes={INPUT_NAME}:1x{shape}",
        f"--maxShapes={INPUT_NAME}:{max_batch}x{shape}",
        f"--shapes={INPUT_NAME}:1x{shape}",
        "--useSpinWait",
        f"--warmUp={WARM_UP_MS}",
    ]


def lines(bundle: Bundle, max_batch: int) -> list[str]:
    """The line of every graph that the bundle has for it."""
    return [
        shlex.join(command(bundle, precision, max_batch, folder=bundle.path.name))
        for precision in GRAPHS
        if precision in bundle.manifest.models
    ]


def measure(bundle: Bundle, precision: str, max_batch: int, timeout_s: float = 1800.0) -> list[float]:
    """Milliseconds of every query that trtexec timed.

    Raises:
        VerdictError: it failed, with its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        words = [*command(bundle, precision, max_batch), f"--exportTimes={times}"]
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

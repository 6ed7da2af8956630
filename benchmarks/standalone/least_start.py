"""How much of a cold start is this package's: `dtvit-edge score` of one slice beside the least that its library needs.

    python -m benchmarks.standalone.least_start NAME.dtvit

`least` is a process that imports NumPy and the library as anybody would, opens the same model unchecked (for OpenVINO
the compiled one of the bundle's `engines/`, where there is one) and asks it one zero image, on one thread; `score` is
`bench`'s cold start. The two alternate. The clock is for a quiet machine; on another one take the CPU seconds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.measure import child_process, cold_start
from benchmarks.measure.configurations import Configuration
from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge import backends
from dtvit_edge.bundle import BUILT_SUFFIXES, ENGINES, Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import BundleError
from dtvit_edge.phantom import render_study, write_study

WHAT = "cold start: score of one slice, and the least that its library needs"
_IMAGE = "import sys, os, numpy; model, *shape = sys.argv[1:]; image = numpy.zeros([int(n) for n in shape], 'uint8'); "
_END = "os._exit(0)"
LEAST = {
    "onnxruntime": _IMAGE + "import onnxruntime; options = onnxruntime.SessionOptions(); "
    "options.intra_op_num_threads = options.inter_op_num_threads = 1; "
    "session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider']); "
    "session.run(None, {session.get_inputs()[0].name: image}); " + _END,
    "openvino": _IMAGE + "import openvino; core = openvino.Core(); "
    "config = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': 1}; "
    "blob = model.endswith('.blob'); data = openvino.Tensor(numpy.fromfile(model, 'uint8'), shared_memory=True) "
    "if blob else None; "
    "compiled = core.import_model(data, 'CPU', config) if blob else core.compile_model(model, 'CPU', config); "
    "compiled.create_infer_request().infer([image]); " + _END,
}


def measure(bundle: Bundle, precision: str, names: list[str], file: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds and CPU seconds by `BACKEND: SIDE`, one sample a round, after one round that fills the page cache.

    Raises:
        BundleError: a process did not end as it should.
    """
    spec = bundle.manifest.spec
    shape = [str(size) for size in (1, spec.channels, spec.crop, spec.crop)]
    samples: dict[str, list[float]] = {}
    for round_ in range(rounds + 1):
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                configuration = Configuration(bundle, name, precision)
                sides = {
                    "score": cold_start.command(configuration, file, Path(folder) / "out", 1),
                    "least": [sys.executable, "-c", LEAST[name], str(model_of(bundle, name, precision)), *shape],
                }
                for side, words in sides.items():
                    ended = child_process.run(words, cold_start.environment())
                    if ended.status:
                        raise BundleError(f"{name}: {side} ended with {ended.status}: {ended.stderr.strip()[-300:]}")
                    if round_:
                        samples.setdefault(f"{name}: {side}: s", []).append(ended.seconds)
                        samples.setdefault(f"{name}: {side}: CPU s", []).append(ended.cpu_seconds)
    return samples


def model_of(bundle: Bundle, name: str, precision: str) -> Path:
    """The file that the least process opens."""
    compiled = sorted((bundle.path / ENGINES).glob(f"openvino-*-{precision}-f32.*{BUILT_SUFFIXES[1]}"))
    return compiled[-1] if name == "openvino" and compiled else bundle.model_path(precision)


@click.command()
@click.argument("path", metavar="BUNDLE", type=FilePath())
@click.option("--precision", default="int8", show_default=True, metavar="NAME", help="Run this model of the bundle.")
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1), help="Take this many samples.")
@record_option()
def main(path: Path, precision: str, rounds: int, out: Path) -> None:
    """Measure cold starts of BUNDLE's model on one thread beside the least of each library; append the record."""
    bundle = Bundle.open(path)
    names = [name for name, why_not in backends.availability().items() if why_not is None and name in LEAST]
    with tempfile.TemporaryDirectory() as folder:
        (file,) = write_study(render_study(1, "deep", indices=(14,)), Path(folder))
        samples = measure(bundle, precision, names, file, rounds)
    summary = {f"{name} (median)": statistics.median(values) for name, values in samples.items()}
    for name, value in summary.items():
        render.echo(f"{name:<40} {value:.3f}")
    compiled = model_of(bundle, "openvino", precision).suffix == BUILT_SUFFIXES[1]
    keep(
        out,
        WHAT,
        "s",
        samples,
        summary,
        {"bundle": bundle.digest},
        encoder=bundle.manifest.encoder,
        precision=precision,
        rounds=rounds,
        compiled=compiled,
    )


if __name__ == "__main__":
    start(main)

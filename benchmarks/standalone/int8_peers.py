"""INT8 by other tools beside this project's, of one fp32 graph and from the same slices: error and processor time.

    python -m benchmarks.standalone.int8_peers BUNDLE --ranges labels.csv --slices held-out.csv --other another-site/

Every tool quantises the bundle's fp32 graph as its manual has it (`benchmarks.peers.quantisers`). `dtvit-edge` is what
`calibrate` makes before anything is chosen or kept in higher precision: all ops in int8, min-max over the slices and
their shifts of the scanner; `dtvit-edge, no shifts` sees the very pixels that the others see, and `dtvit-edge, recipe
attention` has the two products of every attention in int8 as well. Errors are against fp32, on slices like those that
gave the ranges (other patients), under the gate's shifts of the scanner, and on another site's slices as they are and
under the same shifts: on ONNX Runtime, and with OpenVINO's hint bf16 where the processor computes in it. Times are CPU
time of one slice, one thread, all tools in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path

import click
import numpy as np
import onnx

from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.measure.latency import one_slice
from benchmarks.measure.other_int8 import BACKENDS, INT8, OURS, compared
from benchmarks.peers import QUANTISERS, Peer, chosen_peers
from benchmarks.standalone.program import compare, keep, record_option, start
from calibration.activations import channel_ranges
from calibration.quantise import placement, quantise
from calibration.quantizable import attention_ops, weight_ops
from calibration.ranges import whole_ranges
from calibration.smoothing import smooth
from dtvit_edge import backends
from dtvit_edge.backend import Backend, Logits, in_batches, softmax
from dtvit_edge.backends.onnxruntime import BATCH, OnnxRuntimeBackend
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import DtvitError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import ICH_OUTPUT, PreprocessSpec, digest_bytes
from evaluation.agreement import DecisionRule
from evaluation.sampling import Pixels, SliceSet, candidates, load_set, split_into_sets
from evaluation.scanner_shifts import shifted_sets

ERRORS = "int8 by other tools: error at home, under shifts of the scanner and on another site"
TIMES = "int8 by other tools: CPU time of one slice"
NO_SHIFTS, ATTENTION = f"{OURS}, no shifts", f"{OURS}, recipe attention"
HOME, SHIFTS, OTHER, OTHER_SHIFTS = "home", "shifts", "another site", "another site, shifts"
_PACKAGES = ("nncf", "nvidia-modelopt", "onnxruntime", "openvino")


def int8_of(fp32: bytes, pixels: Pixels, attention: bool = False) -> bytes:
    """All ops with a weight in int8, outliers folded, ranges by min-max over slices (N, C, 224, 224) uint8.

    Args:
        attention: quantise the products of two activations too, as `calibrate --recipe attention` does.
    """
    model = onnx.load_model_from_string(fp32)
    ops = weight_ops(model)
    after = smooth(model, ops, channel_ranges(fp32, ops, pixels))
    if attention:
        products = attention_ops(model)
        after |= channel_ranges(model.SerializeToString(), products, pixels)
        ops += products
    return quantise(model, ops, whole_ranges(ops, after))


def quantised(
    fp32: bytes, seen: Pixels, shifted: Pixels, peers: Sequence[Peer], say: Callable[[str], None]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """An ONNX file by tool, and why a tool gave none.

    Args:
        seen: (N, C, 224, 224) uint8, the slices that every tool sees; shifted: those and their shifts.
    """
    tools: dict[str, Callable[[], bytes]] = {
        OURS: partial(int8_of, fp32, shifted),
        NO_SHIFTS: partial(int8_of, fp32, seen),
        ATTENTION: partial(int8_of, fp32, shifted, attention=True),
    }
    left_out = {peer.name: why for peer in peers if (why := peer.why_not()) is not None}
    tools |= {p.name: lambda p=p: p.load()(fp32, seen) for p in peers if p.name not in left_out}  # type: ignore[misc]
    files: dict[str, bytes] = {}
    for tool, make in tools.items():
        began = time.process_time()
        try:
            files[tool] = make()
        except Exception as error:  # whatever a tool raises is its answer
            left_out[tool] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        say(f"{tool}: {left_out.get(tool, f'{time.process_time() - began:.0f} s of CPU time')}")
    return files, left_out


def judged_pixels(
    home: SliceSet, other: SliceSet | None, spec: PreprocessSpec, shifted: int, progress: Progress = silent
) -> dict[str, Pixels]:
    """The slices on which tools are compared, by set; of each shift up to `shifted`."""
    sets = {HOME: home.pixels, SHIFTS: shifts_of(home, spec, shifted, progress)}
    return (
        sets if other is None else sets | {OTHER: other.pixels, OTHER_SHIFTS: shifts_of(other, spec, shifted, progress)}
    )


def shifts_of(slices: SliceSet, spec: PreprocessSpec, count: int, progress: Progress = silent) -> Pixels:
    """Up to so many slices of a set under each shift of the scanner, all shifts together."""
    sets = shifted_sets(slices, spec, seed=0, count=count, progress=progress)
    return np.concatenate([some.pixels for some in sets.values()])


def ways_to_run() -> dict[str, tuple[str, str | None]]:
    """Backend and hint of each way to run an int8 file on this machine, by its words; the first is ONNX Runtime's."""
    ways: dict[str, tuple[str, str | None]] = {}
    for backend in (name for name in BACKENDS if backends.availability()[name] is None):
        for hint in (None, *backends.native_hints(backend)):
            ways[f"{backend} {hint}" if hint else backend] = (backend, hint)
    return ways


@contextmanager
def _opened(
    files: dict[str, bytes], ways: Mapping[str, tuple[str, str | None]], refused: dict[str, str]
) -> Iterator[dict[str, Backend]]:
    """Every file run in every way, by `WAY: TOOL`; who refuses it is entered."""
    with ExitStack() as stack:
        opened: dict[str, Backend] = {}
        for way, (backend, hint) in ways.items():
            for tool, data in files.items():
                try:
                    created = backends.create(backend, lambda data=data: data, INT8, threads=1, hint=hint)
                    opened[f"{way}: {tool}"] = stack.enter_context(created)
                except DtvitError as error:
                    refused[f"{way}: {tool}"] = str(error).splitlines()[0]
        yield opened


def _differences(known: Logits, answered: Logits) -> list[float]:
    p, q = (softmax(logits[ICH_OUTPUT])[:, 1] for logits in (known, answered))
    return [float(value) for value in np.abs(p - q)]


@click.command()
@click.argument("bundle", type=FilePath())
@click.option(
    "--ranges", "calibration_slices", multiple=True, required=True, type=FilePath(),
    help="Take the ranges from these, a labelled CSV or study folders; patients of --slices are left out.",
)  # fmt: skip
@click.option(
    "--slices", multiple=True, required=True, type=FilePath(),
    help="Compare on these slices, and on them under shifts of the scanner.",
)  # fmt: skip
@click.option(
    "--other", multiple=True, type=FilePath(),
    help="Compare on these slices of another site as well; they need no labels.",
)  # fmt: skip
@click.option("--seen", default=96, show_default=True, type=click.IntRange(1), help="Give so many slices to the tools.")
@click.option(
    "--home", default=128, show_default=True, type=click.IntRange(1), help="Take so many of --slices at most."
)
@click.option(
    "--shifted", default=24, show_default=True, type=click.IntRange(1),
    help="Take so many slices at most under each shift of the scanner, wherever there are shifts.",
)  # fmt: skip
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(LEAST_ROUNDS), help="Time so many rounds.")
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME", help="Compare with this tool only (default: all of them)."
)
@record_option()
def main(
    bundle: Path, calibration_slices: tuple[Path, ...], slices: tuple[Path, ...], other: tuple[Path, ...],
    seen: int, home: int, shifted: int, rounds: int, peers: tuple[str, ...], out: Path,
) -> None:  # fmt: skip
    """Quantise the fp32 graph of BUNDLE by every tool, and record errors and times."""
    opened_bundle = Bundle.open(bundle)
    spec, rule = opened_bundle.manifest.spec, DecisionRule.of(opened_bundle)
    pools = split_into_sets(candidates(calibration_slices), candidates(slices), seed=0)
    given = load_set(pools["calibration"], seen, spec, seed=0, name="calibration", progress=render.progress)
    test = load_set(pools["test"], home, spec, seed=0, name="test", progress=render.progress)
    away = candidates(other, pictures=True) if other else []
    elsewhere = load_set(away, len(away), spec, seed=0, name=OTHER, progress=render.progress) if away else None
    sets = judged_pixels(test, elsewhere, spec, shifted, render.progress)
    with_shifts = np.concatenate([given.pixels, shifts_of(given, spec, shifted, render.progress)])
    chosen = chosen_peers(peers, every=False)
    asked = [peer for peer in QUANTISERS if not chosen or peer.name in chosen]
    fp32 = opened_bundle.model_bytes("fp32")
    files, left_out = quantised(fp32, given.pixels, with_shifts, asked, render.echo)

    with OnnxRuntimeBackend(lambda: fp32, "fp32", threads=1) as reference:
        known = {name: in_batches(reference.infer, pixels, BATCH) for name, pixels in sets.items()}
    samples: dict[str, list[float]] = {}
    summary: dict[str, float] = {}
    ways = ways_to_run()
    judged = {"": BACKENDS[0]} | {f", {hint}": way for way, (_, hint) in ways.items() if hint}
    with _opened(files, ways, left_out) as opened:
        for (words, way), tool in product(judged.items(), files):
            if f"{way}: {tool}" not in opened:
                continue
            for name, pixels in sets.items():
                answered = in_batches(opened[f"{way}: {tool}"].infer, pixels, BATCH)
                figures = compared(known[name], answered, rule)
                samples[f"{tool}{words}: {name}"] = _differences(known[name], answered)
                summary |= {f"{tool}{words}: {name}, {figure}": value for figure, value in figures.items()}
                render.echo(f"{tool}{words}: {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        calls = {name: one_slice(backend.infer, test.pixels) for name, backend in opened.items()}
        times = alternate(calls, rounds, runs=2, lead=1, clock=time.process_time)
    digests = {"fp32": digest_bytes(fp32)}
    options = {
        "bundle": opened_bundle.manifest.name,
        "encoder": opened_bundle.manifest.encoder,
        "ops": {tool: placement(data) for tool, data in files.items()},
        "left_out": left_out,
        "ways": list(ways),
        "judged": list(judged),
        "seen": len(given),
        "versions": {name: _version(name) for name in _PACKAGES},
    }
    keep(out, ERRORS, "|difference of the haemorrhage probability|", samples, summary, digests, **options)
    keep(out, TIMES, "ms of CPU time", times, compare(times, OURS), digests, **options, rounds=rounds)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    start(main)

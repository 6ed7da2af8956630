"""Everything that needs a GPU, as one command: what is missing, or engines, agreement and speed as records.

    python -m benchmarks.standalone.gpu_check BUNDLE STUDIES... -o OUT [--record FILE]

`make gpu-check` runs it on the demo bundle. Exit status 1 where the GPU disagrees with the CPU path, 2 where something
is missing.
"""

from __future__ import annotations

import csv
import statistics
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from benchmarks.measure import gpu_times
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cuda.device import Device
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import DtvitError
from dtvit_edge.preprocess import compiled
from dtvit_edge.scoring.api import Options, headers_of, open_backend, open_executor
from dtvit_edge.scoring.run import run
from dtvit_edge.spec import digest_file
from dtvit_edge.trt import library
from dtvit_edge.trt.backend import EngineBackend, unavailable
from dtvit_edge.trt.build import BuildOptions, build_engine
from dtvit_edge.trt.releases import PRECISIONS
from evaluation.gate import Limits
from evaluation.records import Record, append

WHAT_PREPROCESS = "CUDA preprocessing"
WHAT_ENGINE = "engine alone, and the whole executor from host memory"
WHAT_PYTORCH = "PyTorch on the same GPU"
WHAT_DECISIONS = "decisions of the GPU against the CPU path in fp32"


def missing(flavour: str) -> list[str]:
    """What this machine lacks for a library; empty where the check can run."""
    lacks = [why_not] if (why_not := unavailable(flavour)) else []
    if not compiled.find_compilers():
        lacks.append(f"neither nvcc nor NVRTC is here: {compiled.INSTALL}")
    return lacks


def check_preprocessing(bundle: Bundle, slices: list[Slice], rounds: int) -> Record:
    """Bytes against the CPU path, and microseconds a slice at batch 1 and at the largest number up to 64."""
    spec = bundle.manifest.spec
    samples, summary = {}, {}
    with Device() as device:
        wrong = sum(
            gpu_times.differences(gpu_times.run_kernel(device, spec, part), spec, part)
            for part in (slices[i : i + 64] for i in range(0, len(slices), 64))
        )
        for batch in sorted({1, min(64, len(slices))}):
            samples[f"batch {batch}"] = gpu_times.run_kernel(device, spec, slices[:batch], rounds).microseconds
            summary[f"batch {batch}: median"] = statistics.median(samples[f"batch {batch}"])
        options = {"sm": device.sm, "slices": len(slices)}
    summary |= {"slices": float(len(slices)), "slices that differ": float(wrong)}
    return Record(WHAT_PREPROCESS, "us", samples, summary, {"spec": spec.digest}, options)


def check_engine(
    bundle: Bundle, slices: list[Slice], options: Options, batches: tuple[int, ...], rounds: int
) -> Record:
    """The engine alone and the executor, alternating in rounds of 10, at each batch size."""
    samples: dict[str, list[float]] = {}
    summary: dict[str, float] = {}
    with open_backend(bundle, options.backend, options) as backend:
        assert isinstance(backend, EngineBackend)
        described = backend.describe()
        for batch in (b for b in batches if b <= backend.batch):
            alone, whole = samples.setdefault(f"engine {batch}", []), samples.setdefault(f"executor {batch}", [])
            with open_executor(bundle, backend, options) as executor:
                for _ in range(max(1, rounds // 10)):
                    alone += gpu_times.engine_ms(backend, batch, 10)
                    whole += gpu_times.executor_ms(executor, slices, batch, 10)
            medians = statistics.median(alone), statistics.median(whole)
            summary[f"engine {batch}: p50 ms"], summary[f"executor {batch}: p50 ms"] = medians
            summary[f"executor {batch}: slices a second"] = 1e3 * batch / medians[1]
            summary[f"executor {batch}: share of the engine's rate"] = medians[0] / medians[1]
    what = {"precision": options.precision, "encoder": bundle.manifest.encoder, "training": bundle.manifest.training}
    return Record(WHAT_ENGINE, "ms", samples, summary, {"bundle": bundle.digest}, what | described)


def check_decisions(bundle: Bundle, folders: list[Path], out: Path, options: Options) -> Record:
    """The same studies through both; flips and the largest difference of a probability."""
    tables = []
    for name, asked in (("cpu", Options(backend="onnxruntime")), (f"gpu-{options.precision}", options)):
        run(bundle, folders, out / name, asked, overwrite=True)
        with (out / name / "slices.csv").open(newline="", encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    pairs = [(a, b) for a, b in zip(*tables, strict=True) if a["status"] == "scored"]
    differences = [abs(float(a["ich_probability"]) - float(b["ich_probability"])) for a, b in pairs]
    summary = {
        "slices": float(len(pairs)),
        "statuses that differ": float(sum(a["status"] != b["status"] for a, b in zip(*tables, strict=True))),
        "flips": float(flips := sum(a["ich"] != b["ich"] for a, b in pairs)),
        "agreement": 1 - flips / len(pairs),
        "largest difference": max(differences),
    }
    asked_for = {key: value for key, value in asdict(options).items() if value is not None}
    return Record(
        WHAT_DECISIONS, "probability", {"difference": differences}, summary, {"bundle": bundle.digest}, asked_for
    )


def check_pytorch(bundle: Bundle, weights: Path, batches: tuple[int, ...], rounds: int) -> list[Record]:
    """PyTorch's three ways on this GPU, on the golden slices over and over; none, and said, without CUDA in PyTorch."""
    from benchmarks.standalone import gpu_pytorch

    if why_not := gpu_pytorch.absent():
        click.echo(f"PyTorch is not timed: {why_not}", err=True)
        return []
    golden, _ = bundle.golden()
    made = []
    for batch in batches:
        samples = gpu_pytorch.peers_ms(
            weights, np.resize(golden, (batch, *golden.shape[1:])), bundle.manifest.spec, rounds
        )
        summary = {f"{name}: p50 ms": statistics.median(values) for name, values in samples.items()}
        digests = {"weights": digest_file(weights)}
        made.append(Record(WHAT_PYTORCH, "ms", samples, summary, digests, {"batch": batch, "precision": "fp16"}))
    return made


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("studies", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Write the results of scoring here.")
@click.option(
    "--backend",
    default=library.AUTO,
    show_default=True,
    type=click.Choice([library.AUTO, *library.MODULES]),
    help="Build with this library.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    default=PRECISIONS,
    help="Check only this precision (default: all of them).",
)
@click.option(
    "--max-batch", type=click.IntRange(1), default=64, show_default=True, help="Build engines for batches up to this."
)
@click.option(
    "--rounds", type=click.IntRange(10), default=200, show_default=True, help="Take this many samples of each time."
)
@click.option("--no-library-tactics", is_flag=True, help="Leave cuBLAS and cuDNN out, below TensorRT 11.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Time PyTorch on the same GPU as well.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the records to this file.")
def main(
    bundle: Path, studies: tuple[Path, ...], out: Path, backend: str, precisions: tuple[str, ...], max_batch: int,
    rounds: int, no_library_tactics: bool, weights: Path | None, record: Path | None,
) -> None:  # fmt: skip
    """Build engines of BUNDLE on this GPU, hold them to the CPU path on STUDIES, and time them."""
    flavours = tuple(library.MODULES) if backend == library.AUTO else (backend,)
    lacks = {flavour: missing(flavour) for flavour in flavours}
    flavour = next((name for name, absent in lacks.items() if not absent), None)
    if flavour is None:
        for name, absent in lacks.items():
            click.echo(f"{name}: {'; '.join(absent)}", err=True)
        click.echo("gpu-check cannot run here", err=True)
        raise SystemExit(2)
    opened = Bundle.open(bundle)
    reader = SliceReader()
    slices = [reader.read(h) for h in headers_of(discover(walk([Path(f) for f in studies])))]
    records = [check_preprocessing(opened, slices, rounds)]
    bad = records[0].summary["slices that differ"] > 0
    for precision in precisions:
        try:
            build_engine(opened, BuildOptions(precision, flavour, max_batch, library_tactics=not no_library_tactics))
        except DtvitError as error:
            click.echo(f"{precision}: no engine: {error}", err=True)
            bad = True
            continue
        options = Options(backend=flavour, precision=precision)
        decisions = check_decisions(opened, list(studies), out, options)
        bad |= decisions.summary["agreement"] < Limits().agreement or decisions.summary["statuses that differ"] > 0
        records += [decisions, check_engine(opened, slices, options, (1, 8, max_batch), rounds)]
    if weights is not None:
        records += check_pytorch(opened, weights, (1, max_batch), rounds)
    for made in records:
        render.rows((made.what, made.options.get("precision", "")), [(k, f"{v:.6g}") for k, v in made.summary.items()])
        if record is not None:
            append(record, made)
    raise SystemExit(int(bad))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.standalone.gpu_check")

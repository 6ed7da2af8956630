"""A bundle's CPU files against PyTorch: the bytes that the gate judged, one slice at a time.

    python -m benchmarks.standalone.int8_speed BUNDLE WEIGHTS --rounds 12

Every contender runs in one process with the same number of threads, in alternating rounds. Inside the timer is one call
of one slice: `infer` of the runtime's backend on bytes, and for PyTorch (eager, fp32) the forward pass on floats that
were normalised outside of it. Before anything is timed PyTorch must give the bundle's golden logits, and every file
must pass the self-test that `dtvit-edge verify` makes; what fails is not timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import torch

from benchmarks.measure.interleaving import LEAST_ROUNDS, alternate
from benchmarks.results import record_option
from dtvit_edge import backends
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.bundle.verdicts import gate_verdicts
from dtvit_edge.cli import render
from dtvit_edge.errors import DtvitError, VerdictError
from dtvit_edge.selftest import largest_deviation, selftest
from dtvit_edge.spec import OUTPUT_NAMES, digest_file
from evaluation.records import Record, append, ratio_summary
from export.checkpoint import load_checkpoint
from export.model import normalise

WHAT = "a bundle's files against PyTorch eager fp32 on a CPU, batch 1"
PYTORCH = "pytorch"
# Configuration -> backend, precision, hint; another hint is another configuration.
CONFIGURATIONS = {
    "openvino fp32": ("openvino", "fp32", None),
    "openvino int8": ("openvino", "int8", None),
    "openvino int8, rest bf16": ("openvino", "int8", "bf16"),
    "onnxruntime fp32": ("onnxruntime", "fp32", None),
    "onnxruntime int8": ("onnxruntime", "int8", None),
}


@dataclass(frozen=True)
class Measurement:
    """One comparison.

    Attributes:
        samples: milliseconds a slice, by contender.
        deviations: largest |logit difference| from the golden logits, by contender.
        left_out: why a contender was not timed.
        sizes: bytes of each timed precision's file.
    """

    samples: dict[str, list[float]]
    deviations: dict[str, float]
    left_out: dict[str, str]
    sizes: dict[str, int]

    @property
    def summary(self) -> dict[str, float]:
        """How many times faster than PyTorch, round by round; median times; file sizes as shares of fp32's."""
        figures: dict[str, float] = {}
        for contender, values in self.samples.items():
            figures[f"{contender}: ms_median"] = statistics.median(values)
            figures[f"{contender}: max_abs_difference"] = self.deviations[contender]
            if contender != PYTORCH:
                ratios = ratio_summary(self.samples[PYTORCH], values)
                figures |= {f"{contender}: {name}": value for name, value in ratios.items()}
        return figures | {f"{name}: size": size / self.sizes["fp32"] for name, size in self.sizes.items()}


def measure(bundle: Bundle, weights: Path, *, rounds: int, runs: int, threads: int) -> Measurement:
    """Compare every configuration with the golden slices, then time one slice on each that passes.

    Raises:
        VerdictError: the weights are not the ones that the bundle was made from.
    """
    torch.set_num_threads(threads)
    golden = bundle.golden()
    pixels = golden.pixels
    model = load_checkpoint(weights, bundle.manifest.encoder).model
    inputs = normalise(torch.from_numpy(pixels), bundle.manifest.spec)
    with torch.inference_mode():
        reference = [output.numpy() for output in model(inputs)]
    pytorch_error = largest_deviation(dict(zip(OUTPUT_NAMES, reference, strict=True)), golden)
    if not pytorch_error <= bundle.manifest.tolerances[REFERENCE_PRECISION]:
        raise VerdictError(
            f"{weights}: PyTorch is {pytorch_error:.3g} from the bundle's golden logits; nothing was timed"
        )
    first_slice = inputs[:1].contiguous()
    calls: dict[str, Callable[[], object]] = {PYTORCH: partial(_forward, model, first_slice)}
    deviations, left_out = {PYTORCH: pytorch_error}, {}
    with ExitStack() as stack:
        for configuration, (name, precision, hint) in CONFIGURATIONS.items():
            why_not = backends.availability()[name]
            if why_not is None and precision not in bundle.present:
                why_not = f"this copy of the bundle has no {precision}"
            if why_not is None:
                load = partial(bundle.model_bytes, precision)
                backend = stack.enter_context(backends.create(name, load, precision, threads=threads, hint=hint))
                test = selftest(bundle, backend)
                deviations[configuration] = test.worst
                if not test.passed:
                    why_not = f"{test.worst:.3g} from the golden logits, {test.tolerance:.3g} is allowed"
                else:
                    calls[configuration] = partial(backend.infer, pixels[:1])
            if why_not is not None:
                left_out[configuration] = why_not
        samples = alternate(calls, rounds, runs)
    timed = {"fp32"} | {CONFIGURATIONS[configuration][1] for configuration in calls if configuration in CONFIGURATIONS}
    sizes = {name: bundle.manifest.models[name].bytes for name in sorted(timed)}
    return Measurement(samples, deviations, left_out, sizes)


def _forward(model: torch.nn.Module, inputs: torch.Tensor) -> object:
    with torch.inference_mode():
        return model(inputs)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--rounds", default=12, show_default=True, type=click.IntRange(min=LEAST_ROUNDS), help="Time this many rounds."
)
@click.option(
    "--runs", default=3, show_default=True, type=click.IntRange(min=1), help="Make this many calls in a round."
)
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Use this many threads for each."
)
@record_option()
def main(bundle: Path, weights: Path, rounds: int, runs: int, threads: int, out: Path) -> None:
    """Measure how much faster than PyTorch the files of BUNDLE, made from WEIGHTS, are on this CPU."""
    try:
        opened = Bundle.open(bundle)
        measurement = measure(opened, weights, rounds=rounds, runs=runs, threads=threads)
    except DtvitError as error:
        raise click.ClickException(str(error)) from error
    for contender, why in measurement.left_out.items():
        render.echo(f"{contender}: not timed, {why}")
    s = measurement.summary
    for contender in measurement.samples:
        ratio = "" if contender == PYTORCH else (
            f"  {s[f'{contender}: ratio_median']:.2f} times faster than PyTorch (quartiles "
            f"{s[f'{contender}: ratio_lower_quartile']:.2f} to {s[f'{contender}: ratio_upper_quartile']:.2f})"
        )  # fmt: skip
        render.echo(f"{contender:<26} {s[f'{contender}: ms_median']:8.2f} ms{ratio}")
    options = {
        "encoder": opened.manifest.encoder,
        "training": opened.manifest.training,
        "gate": gate_verdicts(opened.manifest),
        "threads": threads,
        "rounds": rounds,
        "runs": runs,
        "left_out": measurement.left_out,
        "command": f"python -m benchmarks.standalone.int8_speed {bundle} {weights} --rounds {rounds} --runs {runs} "
        f"--threads {threads}",
    }
    digests = {"bundle": opened.digest, "weights": digest_file(weights)}
    append(out, Record(WHAT, "ms", measurement.samples, s, digests=digests, options=options))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.standalone.int8_speed")

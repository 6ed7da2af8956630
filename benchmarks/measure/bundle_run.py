"""One bundle, measured: accuracy first, then everything else, each as a record."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.measure import accuracy, latency, measurements, other_int8
from benchmarks.measure.accuracy import ConfigurationAccuracy
from benchmarks.measure.configurations import Configuration, find_configurations
from benchmarks.measure.inputs import Inputs, set_digest
from benchmarks.measure.measurements import OpenedBundle
from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers.baselines import Baselines
from benchmarks.results import names
from benchmarks.results.recorder import Measured, Recorder
from benchmarks.settings import Settings
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError, VerdictError
from dtvit_edge.progress import Progress
from evaluation.records import Record


@dataclass
class _Judged:
    """What is known of a bundle's configurations before anything is timed.

    Attributes:
        accuracies, backends: by name of the configuration; left_out: why a configuration has no latency, by its name.
        reference: what all were compared with.
    """

    reference: accuracy.Reference
    left_out: dict[str, str]
    accuracies: dict[str, ConfigurationAccuracy] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)


def measure_bundle(
    bundle: Bundle,
    weights: Path | None,
    inputs: Inputs,
    settings: Settings,
    progress: Progress,
    say: Callable[[str], None],
) -> Iterator[Record]:
    """Everything that was asked for; the first record is the accuracy's.

    Args:
        weights: the checkpoint that the bundle was made from; say: is given a line of each configuration that fails.

    Raises:
        VerdictError: not one configuration passed; the accuracy's record has been given by then.
    """
    yardstick = Yardstick()
    with ExitStack() as stack:
        baselines = Baselines(bundle, weights, settings, progress).open()
        judged = _judge(stack, bundle, baselines, inputs, settings, progress, say)
        record = Recorder(bundle, inputs.data, settings, judged.left_out, yardstick)
        yield record(_accuracy(bundle, judged, inputs, settings))
        passed = {name: result.configuration for name, result in judged.accuracies.items() if result.why_not is None}
        if not passed:
            raise VerdictError(f"{bundle.manifest.name}: no configuration passed, and nothing was timed")
        opened = OpenedBundle(bundle, passed, judged.backends, inputs, settings, progress, yardstick)
        others = other_int8.quantise(bundle, settings, progress)
        baselines.left_out |= others.left_out
        latencies = record(measurements.one_slice_ms(opened, baselines))
        yield latencies
        fastest = [passed[name] for name in _fastest(latencies, passed)[: 1 if settings.effort.quick else None]]
        if others.files:
            yield record(_other_int8(opened, others, judged.reference))
        yield record(measurements.stages_ms(opened, baselines))
        yield record(measurements.slices_a_second(opened))
        if settings.duration_s:
            yield record(measurements.sustained_ms(opened, fastest[0]))
        if settings.layers:
            yield from map(record, measurements.layers_ms(opened))
        yield record(measurements.folder_to_result(opened, fastest, baselines))
    yield from map(record, measurements.whole_processes(opened, fastest))
    if settings.peers:
        yield from map(record, measurements.by_trtexec(opened))


def _judge(
    stack: ExitStack,
    bundle: Bundle,
    baselines: Baselines,
    inputs: Inputs,
    settings: Settings,
    progress: Progress,
    say: Callable[[str], None],
) -> _Judged:
    """Open every configuration until the stack ends, and judge it.

    Raises:
        VerdictError: not one could be opened.
    """
    candidates, left_out = find_configurations(bundle, settings)
    first = accuracy.reference_configuration(bundle)
    candidates.sort(key=lambda configuration: configuration != first)  # stable, the reference first
    judged: _Judged | None = None
    for configuration in candidates:
        try:
            backend = stack.enter_context(configuration.create(settings.threads))
        except DtvitError as error:
            left_out[configuration.name] = str(error).replace(str(bundle.path), bundle.path.name)
            continue
        if judged is None:
            opened = backend if configuration == first else None
            reference = accuracy.make_reference(
                bundle, inputs.slices_judged, settings, baselines.reference, opened, progress
            )
            judged = _Judged(reference, left_out)
        result = accuracy.evaluate(configuration, backend, inputs.slices_judged, judged.reference, settings, progress)
        judged.accuracies[configuration.name], judged.backends[configuration.name] = result, backend
        if result.why_not is not None:
            left_out[configuration.name] = f"failed: {result.why_not}"
            say(f"{configuration.name}: not timed, {result.why_not}")
    if judged is None:
        raise VerdictError(f"{bundle.manifest.name}: no configuration could be opened: {left_out}")
    return judged


def _accuracy(bundle: Bundle, judged: _Judged, inputs: Inputs, settings: Settings) -> Measured:
    samples = accuracy.samples(judged.accuracies.values(), inputs.slices_judged)
    summary = {k: v for result in judged.accuracies.values() for k, v in result.summary().items()}
    extra = {
        "reference": judged.reference.name,
        "verdicts": {name: result.gate.verdict for name, result in judged.accuracies.items()},
        "reasons": {name: list(result.gate.reasons) for name, result in judged.accuracies.items()},
        "limits": asdict(settings.gate_limits),
        "threshold": asdict(bundle.thresholds.slice),
        "configurations": {
            name: _described(judged.accuracies[name].configuration, b) for name, b in judged.backends.items()
        },
    }
    digests = {"slices": set_digest(inputs.slices_judged)}
    return Measured(names.ACCURACY, names.ICH_PROBABILITY, samples, summary, extra, digests)


def _other_int8(opened: OpenedBundle, others: other_int8.OtherInt8, reference: accuracy.Reference) -> Measured:
    samples, summary, refused = other_int8.measure(
        opened.bundle, others, reference, opened.inputs.slices_judged, opened.settings, opened.yardstick,
        opened.progress,
    )  # fmt: skip
    extra = {"inside": latency.INSIDE_TIMER, "ranges": others.ranges, "ops": others.ops(), "refused": refused}
    return Measured(names.OTHER_INT8, names.MS, samples, summary, extra)


def _fastest(latencies: Record, passed: Mapping[str, Configuration]) -> list[str]:
    """The fastest configuration of each precision, whatever its hint, the fastest of all first."""
    order = sorted(passed, key=lambda name: statistics.median(latencies.samples[name]))
    best: dict[str, str] = {}
    for name in order:
        best.setdefault(passed[name].precision, name)
    return list(best.values())


def _described(configuration: Configuration, backend: Backend) -> dict[str, str]:
    digest = {"sha256": configuration.sha256} if configuration.sha256 else {}
    return backend.describe() | {"precision": configuration.precision} | digest

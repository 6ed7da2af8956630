"""What is measured of a bundle whose configurations are judged and open: each function makes what a record holds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from benchmarks.measure import cold_start, conditions, device_hooks, end_to_end, latency, layers, sensors, throughput
from benchmarks.measure.configurations import Configuration
from benchmarks.measure.inputs import Inputs, studies_digest
from benchmarks.measure.statistics import percentiles, ratio
from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers import trtexec
from benchmarks.peers.baselines import Baselines
from benchmarks.results import names
from benchmarks.results.names import key_of
from benchmarks.results.recorder import Measured
from benchmarks.settings import Settings
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.progress import Progress
from dtvit_edge.scoring.prefetch import default_workers

WARM_UP_NOTE = "warm-up is kept apart, in options.warm_up"
INSIDE_TIMER_SCRIPTS = (
    "the peers' scripts: read, preprocess, infer, aggregate; no planning pass, nothing written, model open"
)


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose configurations are judged.

    Attributes:
        passed: what is timed, by name; backends: of these and of those that failed, open.
        inputs: what it is measured on.
    """

    bundle: Bundle
    passed: Mapping[str, Configuration]
    backends: Mapping[str, Backend]
    inputs: Inputs
    settings: Settings
    progress: Progress
    yardstick: Yardstick


def one_slice_ms(opened: OpenedBundle, baselines: Baselines) -> Measured:
    """Milliseconds of one slice in the model, of every configuration that opened.passed and every peer."""
    pixels = opened.inputs.slices_judged.pixels
    mark, no_ranges = device_hooks.ranges()
    null = latency.NullBackend()
    calls = {name: latency.one_slice(opened.backends[name].infer, pixels) for name in opened.passed}
    calls |= baselines.calls(pixels) | {names.NULL_BACKEND: latency.one_slice(null.infer, pixels)}
    before, pools = conditions.observe(), opened.settings.threads != 1
    with opened.progress("latency", 1) as step, mark("latency"), conditions.OtherWork() as others:
        warm_up, samples = latency.measure(calls, opened.settings.effort, opened.yardstick, pools=pools)
        step(1)
    after = conditions.observe()
    summary = _percentiles(samples)
    fastest = min(opened.passed, key=lambda name: statistics.median(samples[name]))
    summary["harness: share of the fastest configuration"] = statistics.median(
        samples[names.NULL_BACKEND]
    ) / statistics.median(samples[fastest])
    for name in baselines.opened:
        for configuration in opened.passed:
            speed = ratio(samples[name], samples[configuration], paired=True, seed=opened.settings.seed)
            key = key_of(configuration, f"times as fast as {name}")
            summary |= {key: speed.value, f"{key}, low": speed.low, f"{key}, high": speed.high}
    count = len(samples[fastest])
    for name in opened.passed:
        for stage, values in device_hooks.device_ms(opened.backends[name], pixels, count).items():
            samples[key_of(name, f"device {stage}")] = values
    extra = {
        "inside": f"{latency.INSIDE_TIMER_PAUSED if pools else latency.INSIDE_TIMER}; {WARM_UP_NOTE}",
        "warm_up": warm_up,
        "before": asdict(before),
        "after": asdict(after),
        names.OTHER_WORK: others.cores,
        "nvtx": no_ranges or "ranges were written",
        "device_time": "of an engine, between CUDA events, the copies apart"
        if any(": device " in name for name in samples)
        else "no backend here runs on a device",
        "peers_left_out": baselines.left_out,
        "peers_difference": baselines.differences,
    }
    return Measured(names.LATENCY, names.MS, samples, summary, extra)


def stages_ms(opened: OpenedBundle, baselines: Baselines) -> Measured:
    """Milliseconds of one slice before the model, by stage."""
    header = opened.inputs.middle
    calls = latency.stage_calls(header.file, opened.bundle.manifest.spec) | baselines.stage_calls(header.file)
    with opened.progress("stages", 1) as step:
        _, samples = latency.measure(calls, opened.settings.effort, opened.yardstick)
        step(1)
    extra = {"inside": latency.INSIDE_TIMER_STAGES, "matrix": f"{header.rows} x {header.columns}",
             "peers_left_out": baselines.left_out}  # fmt: skip
    return Measured(names.STAGES, names.MS, samples, _percentiles(samples), extra)


def slices_a_second(opened: OpenedBundle) -> Measured:
    """Slices a second over batch sizes."""
    present_sensors, absent = sensors.find()
    effort = opened.settings.effort
    samples: dict[str, list[float]] = {}
    summary: dict[str, float] = {}
    refused: dict[str, str] = {}
    with opened.progress("throughput", len(opened.passed)) as step:
        for name in opened.passed:
            with device_hooks.ranges()[0](f"throughput: {name}"):
                measurements, why_not = throughput.sweep(
                    opened.backends[name].infer,
                    opened.inputs.slices_judged.pixels,
                    effort.batches,
                    effort.seconds_a_batch,
                    present_sensors,
                    partial(_mark, opened.yardstick, name),
                )
            for measurement in measurements:
                key = names.batch_key(name, measurement.batch)
                samples[key] = measurement.slices_a_second
                summary[key_of(key, names.SLICES_PER_SECOND)] = measurement.rate
                summary |= {key_of(key, f"{rail} a slice"): v for rail, v in measurement.joules_a_slice().items()}
                summary |= {key_of(key, k): v for k, v in measurement.sensors.items() if k.endswith("memory_bytes_max")}
            refused |= {names.batch_key(name, batch): why for batch, why in why_not.items()}
            held = device_hooks.device_bytes(opened.backends[name])
            summary |= {} if held is None else {key_of(name, names.DEVICE_BYTES): float(held)}
            step(1)
    extra = {"inside": throughput.INSIDE_TIMER, "sensors_absent": absent, "refused": refused}
    return Measured(names.THROUGHPUT, names.SLICES_PER_SECOND, samples, summary, extra)


def sustained_ms(opened: OpenedBundle, configuration: Configuration) -> Measured:
    """Milliseconds of every call of a long run."""
    backend, before = opened.backends[configuration.name], conditions.observe()
    with opened.progress(f"sustained: {configuration.name}", 1) as step:
        opened.yardstick.take()
        ms = throughput.sustained(
            backend.infer, opened.inputs.slices_judged.pixels, backend.batch, opened.settings.duration_s
        )
        opened.yardstick.take()
        step(1)
    drift = throughput.drift(ms)
    summary = {"drift": drift.value, "drift, low": drift.low, "drift, high": drift.high}
    extra = {"batch": backend.batch, "seconds": opened.settings.duration_s, "verdict": drift.verdict,
             "before": asdict(before), "after": asdict(conditions.observe()),
             "inside": throughput.INSIDE_TIMER}  # fmt: skip
    return Measured(names.SUSTAINED, names.MS, {configuration.name: ms}, summary, extra)


def layers_ms(opened: OpenedBundle) -> Iterator[Measured]:
    """Milliseconds by layer; nothing where no backend has a profile."""
    samples: dict[str, list[float]] = {}
    without = []
    for name, configuration in opened.passed.items():
        pixels = opened.inputs.slices_judged.pixels[:1]
        costliest = layers.largest(
            layers.profile(configuration, opened.backends[name], pixels, opened.settings.threads)
        )
        samples |= {key_of(name, layer): [value] for layer, value in costliest}
        without += [] if costliest else [name]
    if samples:
        extra = {"calls": layers.CALLS, "without_a_profile": without}
        yield Measured(names.LAYERS, names.MS, samples, {}, extra)


def folder_to_result(opened: OpenedBundle, chosen: list[Configuration], baselines: Baselines) -> Measured:
    """Milliseconds a slice of whole runs, beside the peers' scripts."""
    threads, effort = opened.settings.threads, opened.settings.effort
    folders = opened.inputs.folders
    runs = {configuration.name: partial(end_to_end.score, configuration, folders, threads) for configuration in chosen}
    runs |= {
        names.with_workers(chosen[0].name, n): partial(end_to_end.score, chosen[0], folders, threads, n)
        for n in effort.workers
    }
    scripts = baselines.pipelines([header.file for header in opened.inputs.headers])
    with opened.progress("from folder to result", effort.rounds * (len(runs) + len(scripts))) as step:
        folder_runs = end_to_end.measure(runs | scripts, effort.rounds, step, opened.yardstick.take)
    summary = folder_runs.summary()
    for script in scripts:
        for configuration in chosen:
            summary |= folder_runs.against(configuration.name, script, opened.settings.seed)
    counted = {name: {"slices": last.slices, "studies": len(last.flagged)} for name, last in folder_runs.last.items()}
    extra = {"inside": end_to_end.INSIDE_TIMER, "inside_scripts": INSIDE_TIMER_SCRIPTS if scripts else "",
             "counted": counted, "studies": opened.inputs.studies, "workers": default_workers()}  # fmt: skip
    digests = {"studies": studies_digest(opened.inputs.plan)}
    return Measured(names.END_TO_END, names.MS, folder_runs.samples, summary, extra, digests)


def whole_processes(opened: OpenedBundle, chosen: list[Configuration]) -> Iterator[Measured]:
    """Seconds, CPU seconds and the most memory of processes that score one slice from a cold start; two records."""
    seconds: dict[str, list[float]] = {}
    cpu_seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    with opened.progress("cold start", len(chosen)) as step:
        for configuration in chosen:
            cold_starts = cold_start.measure(
                configuration,
                opened.inputs.middle.file,
                opened.settings.effort.cold_starts,
                opened.settings.threads,
                partial(opened.yardstick.take, configuration.name),
            )
            seconds[configuration.name] = cold_starts.seconds
            cpu_seconds[configuration.name] = cold_starts.cpu_seconds
            peaks[configuration.name] = [float(peak) for peak in cold_starts.peak_bytes]
            step(1)
    medians = {key_of(name, "median"): statistics.median(values) for name, values in seconds.items()}
    extra = {"inside": cold_start.INSIDE_TIMER, names.CPU_SECONDS: cpu_seconds}
    yield Measured(names.COLD_START, names.SECONDS, seconds, medians, extra)
    files = {names.file_size_key(name): float(record.bytes) for name, record in opened.bundle.manifest.models.items()}
    largest = {key_of(name, "max"): max(values) for name, values in peaks.items()}
    yield Measured(names.MEMORY, names.BYTES, peaks, largest | files, {"inside": cold_start.INSIDE_TIMER})


def by_trtexec(opened: OpenedBundle) -> Iterator[Measured]:
    """NVIDIA's tool's own times; nothing where it is not here."""
    if trtexec.why_not() is not None:
        return
    samples, failed = {}, {}
    for precision in (name for name in trtexec.GRAPHS if name in opened.bundle.manifest.models):
        try:
            samples[precision] = trtexec.measure(opened.bundle, precision, max(opened.settings.effort.batches))
        except VerdictError as error:
            failed[precision] = str(error).replace(str(opened.bundle.path), opened.bundle.path.name)
    if samples:
        yield Measured(names.TRTEXEC, names.MS, samples, _percentiles(samples), {"failed": failed})


def _mark(yardstick: Yardstick, name: str, batch: int) -> None:
    yardstick.take(names.batch_key(name, batch))


def _percentiles(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {key_of(name, key): value for name, values in samples.items() for key, value in percentiles(values).items()}

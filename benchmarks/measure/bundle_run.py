"""One bundle, measured: accuracy first, then everything else, each as a record."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    accuracy,
    bedside,
    cold_start,
    conditions,
    device_hooks,
    end_to_end,
    latency,
    layers,
    other_int8,
    sensors,
    throughput,
)
from benchmarks.measure.accuracy import ConfigurationAccuracy
from benchmarks.measure.configurations import Configuration, find_configurations
from benchmarks.measure.inputs import Inputs, set_digest, studies_digest
from benchmarks.measure.statistics import percentiles, ratio
from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers import trtexec
from benchmarks.peers.baselines import Baselines
from benchmarks.results import names
from benchmarks.results.names import key_of
from benchmarks.results.recorder import Recorder
from benchmarks.settings import Settings
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError, VerdictError
from dtvit_edge.progress import Progress
from dtvit_edge.scoring.prefetch import default_workers
from evaluation.records import Record

WARM_UP_NOTE = "warm-up is kept apart, in options.warm_up"
INSIDE_TIMER_SCRIPTS = (
    "the peers' scripts: read, preprocess, infer, aggregate; no planning pass, nothing written, model open"
)


@dataclass
class BundleRun:
    """One bundle while it is measured: its opened configurations and what is known of them.

    Attributes:
        accuracies, backends: by name of the configuration; left_out: why a configuration has no latency, by its name.
        reference: what all were compared with.
    """

    bundle: Bundle
    weights: Path | None
    inputs: Inputs
    settings: Settings
    progress: Progress
    say: Callable[[str], None]
    accuracies: dict[str, ConfigurationAccuracy] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    reference: accuracy.Reference | None = None
    yardstick: Yardstick = field(default_factory=Yardstick)

    @property
    def _record(self) -> Recorder:
        return Recorder(self.bundle, self.inputs.data, self.settings, self.left_out, self.yardstick)

    def records(self) -> Iterator[Record]:
        """Everything that was asked for; the first record is the accuracy's.

        Raises:
            VerdictError: not one configuration passed; the accuracy's record has been given by then.
        """
        with ExitStack() as stack:
            baselines = Baselines(self.bundle, self.weights, self.settings, self.progress).open()
            yield self._accuracy(stack, baselines)
            passed = {name: result.configuration for name, result in self.accuracies.items() if result.why_not is None}
            if not passed:
                raise VerdictError(f"{self.bundle.manifest.name}: no configuration passed, and nothing was timed")
            others = other_int8.quantise(self.bundle, self.settings, self.progress)
            baselines.left_out |= others.left_out
            latencies = self._latency(passed, baselines)
            yield latencies
            fastest = _fastest(latencies, passed)[: 1 if self.settings.effort.quick else None]
            if others.files:
                yield self._other_int8(others)
            yield self._stages(baselines)
            yield self._throughput(passed)
            if self.settings.duration_s:
                yield self._sustained(passed[fastest[0]])
            if self.settings.layers:
                yield from self._layers(passed)
            yield self._end_to_end([passed[name] for name in fastest], baselines)
        yield from self._cold([passed[name] for name in fastest])
        if self.settings.bedside:
            timed = bedside.stage([passed[name] for name in fastest], self.inputs, self.settings, self.yardstick.take)
            yield self._record(names.BEDSIDE, names.SECONDS, *timed)
        if self.settings.peers:
            yield from self._trtexec()

    def _accuracy(self, stack: ExitStack, baselines: Baselines) -> Record:
        bundle, slices = self.bundle, self.inputs.slices_judged
        candidates, self.left_out = find_configurations(bundle, self.settings)
        first = accuracy.reference_configuration(bundle)
        candidates.sort(key=lambda configuration: configuration != first)  # stable, the reference first
        reference: accuracy.Reference | None = None
        for configuration in candidates:
            try:
                backend = stack.enter_context(configuration.create(self.settings.threads))
            except DtvitError as error:
                self.left_out[configuration.name] = str(error).replace(str(bundle.path), bundle.path.name)
                continue
            if reference is None:
                opened = backend if configuration == first else None
                reference = accuracy.make_reference(
                    bundle, slices, self.settings, baselines.reference, opened, self.progress
                )
            result = accuracy.evaluate(configuration, backend, slices, reference, self.settings, self.progress)
            self.accuracies[configuration.name], self.backends[configuration.name] = result, backend
            if result.why_not is not None:
                self.left_out[configuration.name] = f"failed: {result.why_not}"
                self.say(f"{configuration.name}: not timed, {result.why_not}")
        if reference is None:
            raise VerdictError(f"{bundle.manifest.name}: no configuration could be opened: {self.left_out}")
        self.reference = reference
        samples = accuracy.samples(self.accuracies.values(), slices)
        summary = {k: v for result in self.accuracies.values() for k, v in result.summary().items()}
        extra = {
            "reference": reference.name,
            "verdicts": {name: result.gate.verdict for name, result in self.accuracies.items()},
            "reasons": {name: list(result.gate.reasons) for name, result in self.accuracies.items()},
            "limits": asdict(self.settings.gate_limits),
            "threshold": asdict(bundle.thresholds.slice),
            "configurations": {
                name: _described(self.accuracies[name].configuration, b) for name, b in self.backends.items()
            },
        }
        return self._record(
            names.ACCURACY, names.ICH_PROBABILITY, samples, summary, extra, {"slices": set_digest(slices)}
        )

    def _latency(self, passed: Mapping[str, Configuration], baselines: Baselines) -> Record:
        pixels = self.inputs.slices_judged.pixels
        mark, no_ranges = device_hooks.ranges()
        null = latency.NullBackend()
        calls = {name: latency.one_slice(self.backends[name].infer, pixels) for name in passed}
        calls |= baselines.calls(pixels) | {names.NULL_BACKEND: latency.one_slice(null.infer, pixels)}
        before, pools = conditions.observe(), self.settings.threads != 1
        with self.progress("latency", 1) as step, mark("latency"), conditions.OtherWork() as others:
            warm_up, samples = latency.measure(calls, self.settings.effort, self.yardstick, pools=pools)
            step(1)
        after = conditions.observe()
        summary = _percentiles(samples)
        fastest = min(passed, key=lambda name: statistics.median(samples[name]))
        summary["harness: share of the fastest configuration"] = statistics.median(
            samples[names.NULL_BACKEND]
        ) / statistics.median(samples[fastest])
        for name in baselines.opened:
            for configuration in passed:
                speed = ratio(samples[name], samples[configuration], paired=True, seed=self.settings.seed)
                key = key_of(configuration, f"times as fast as {name}")
                summary |= {key: speed.value, f"{key}, low": speed.low, f"{key}, high": speed.high}
        count = len(samples[fastest])
        for name in passed:
            for stage, values in device_hooks.device_ms(self.backends[name], pixels, count).items():
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
        return self._record(names.LATENCY, names.MS, samples, summary, extra)

    def _other_int8(self, others: other_int8.OtherInt8) -> Record:
        assert self.reference is not None  # the accuracy's record is the first
        samples, summary, refused = other_int8.measure(
            self.bundle, others, self.reference, self.inputs.slices_judged, self.settings, self.yardstick, self.progress
        )
        extra = {"inside": latency.INSIDE_TIMER, "ranges": others.ranges, "ops": others.ops(),
                 "refused": refused}  # fmt: skip
        return self._record(names.OTHER_INT8, names.MS, samples, summary, extra)

    def _stages(self, baselines: Baselines) -> Record:
        header = self.inputs.middle
        calls = latency.stage_calls(header.file, self.bundle.manifest.spec) | baselines.stage_calls(header.file)
        with self.progress("stages", 1) as step:
            _, samples = latency.measure(calls, self.settings.effort, self.yardstick)
            step(1)
        extra = {"inside": latency.INSIDE_TIMER_STAGES, "matrix": f"{header.rows} x {header.columns}",
                 "peers_left_out": baselines.left_out}  # fmt: skip
        return self._record(names.STAGES, names.MS, samples, _percentiles(samples), extra)

    def _throughput(self, passed: Mapping[str, Configuration]) -> Record:
        present_sensors, absent = sensors.find()
        effort = self.settings.effort
        samples: dict[str, list[float]] = {}
        summary: dict[str, float] = {}
        refused: dict[str, str] = {}
        with self.progress("throughput", len(passed)) as step:
            for name in passed:
                with device_hooks.ranges()[0](f"throughput: {name}"):
                    measurements, why_not = throughput.sweep(
                        self.backends[name].infer,
                        self.inputs.slices_judged.pixels,
                        effort.batches,
                        effort.seconds_a_batch,
                        present_sensors,
                        partial(self._mark, name),
                    )
                for measurement in measurements:
                    key = names.batch_key(name, measurement.batch)
                    samples[key] = measurement.slices_a_second
                    summary[key_of(key, names.SLICES_PER_SECOND)] = measurement.rate
                    summary |= {key_of(key, f"{rail} a slice"): v for rail, v in measurement.joules_a_slice().items()}
                    summary |= {
                        key_of(key, k): v for k, v in measurement.sensors.items() if k.endswith("memory_bytes_max")
                    }
                refused |= {names.batch_key(name, batch): why for batch, why in why_not.items()}
                held = device_hooks.device_bytes(self.backends[name])
                summary |= {} if held is None else {key_of(name, "device_bytes"): float(held)}
                step(1)
        extra = {"inside": throughput.INSIDE_TIMER, "sensors_absent": absent, "refused": refused}
        return self._record(names.THROUGHPUT, names.SLICES_PER_SECOND, samples, summary, extra)

    def _sustained(self, configuration: Configuration) -> Record:
        backend, before = self.backends[configuration.name], conditions.observe()
        with self.progress(f"sustained: {configuration.name}", 1) as step:
            self.yardstick.take()
            ms = throughput.sustained(
                backend.infer, self.inputs.slices_judged.pixels, backend.batch, self.settings.duration_s
            )
            self.yardstick.take()
            step(1)
        drift = throughput.drift(ms)
        summary = {"drift": drift.value, "drift, low": drift.low, "drift, high": drift.high}
        extra = {"batch": backend.batch, "seconds": self.settings.duration_s, "verdict": drift.verdict,
                 "before": asdict(before), "after": asdict(conditions.observe()),
                 "inside": throughput.INSIDE_TIMER}  # fmt: skip
        return self._record(names.SUSTAINED, names.MS, {configuration.name: ms}, summary, extra)

    def _layers(self, passed: Mapping[str, Configuration]) -> Iterator[Record]:
        samples: dict[str, list[float]] = {}
        without = []
        for name, configuration in passed.items():
            pixels = self.inputs.slices_judged.pixels[:1]
            costliest = layers.largest(
                layers.profile(configuration, self.backends[name], pixels, self.settings.threads)
            )
            samples |= {key_of(name, layer): [value] for layer, value in costliest}
            without += [] if costliest else [name]
        if samples:
            extra = {"calls": layers.CALLS, "without_a_profile": without}
            yield self._record(names.LAYERS, names.MS, samples, {}, extra)

    def _end_to_end(self, chosen: list[Configuration], baselines: Baselines) -> Record:
        threads, effort = self.settings.threads, self.settings.effort
        folders = self.inputs.folders
        runs = {
            configuration.name: partial(end_to_end.score, configuration, folders, threads) for configuration in chosen
        }
        runs |= {
            names.with_workers(chosen[0].name, n): partial(end_to_end.score, chosen[0], folders, threads, n)
            for n in effort.workers
        }
        scripts = baselines.pipelines([header.file for header in self.inputs.headers])
        with self.progress("from folder to result", effort.rounds * (len(runs) + len(scripts))) as step:
            folder_runs = end_to_end.measure(runs | scripts, effort.rounds, step, self.yardstick.take)
        summary = folder_runs.summary()
        for script in scripts:
            for configuration in chosen:
                summary |= folder_runs.against(configuration.name, script, self.settings.seed)
        counted = {
            name: {"slices": last.slices, "studies": len(last.flagged)} for name, last in folder_runs.last.items()
        }
        extra = {"inside": end_to_end.INSIDE_TIMER, "inside_scripts": INSIDE_TIMER_SCRIPTS if scripts else "",
                 "counted": counted, "studies": self.inputs.studies, "workers": default_workers()}  # fmt: skip
        digests = {"studies": studies_digest(self.inputs.plan)}
        return self._record(names.END_TO_END, names.MS, folder_runs.samples, summary, extra, digests)

    def _cold(self, chosen: list[Configuration]) -> Iterator[Record]:
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, list[float]] = {}
        with self.progress("cold start", len(chosen)) as step:
            for configuration in chosen:
                cold_starts = cold_start.measure(
                    configuration,
                    self.inputs.middle.file,
                    self.settings.effort.cold_starts,
                    self.settings.threads,
                    partial(self.yardstick.take, configuration.name),
                )
                seconds[configuration.name] = cold_starts.seconds
                peaks[configuration.name] = [float(peak) for peak in cold_starts.peak_bytes]
                step(1)
        medians = {key_of(name, "median"): statistics.median(values) for name, values in seconds.items()}
        yield self._record(names.COLD_START, names.SECONDS, seconds, medians, {"inside": cold_start.INSIDE_TIMER})
        files = {names.file_size_key(name): float(record.bytes) for name, record in self.bundle.manifest.models.items()}
        largest = {key_of(name, "max"): max(values) for name, values in peaks.items()}
        yield self._record(names.MEMORY, names.BYTES, peaks, largest | files, {"inside": cold_start.INSIDE_TIMER})

    def _trtexec(self) -> Iterator[Record]:
        if trtexec.why_not() is not None:
            return
        samples, failed = {}, {}
        for precision in (name for name in trtexec.GRAPHS if name in self.bundle.manifest.models):
            try:
                samples[precision] = trtexec.measure(self.bundle, precision, max(self.settings.effort.batches))
            except VerdictError as error:
                failed[precision] = str(error).replace(str(self.bundle.path), self.bundle.path.name)
        if samples:
            yield self._record(names.TRTEXEC, names.MS, samples, _percentiles(samples), {"failed": failed})

    def _mark(self, name: str, batch: int) -> None:
        self.yardstick.take(names.batch_key(name, batch))


def _fastest(latencies: Record, passed: Mapping[str, Configuration]) -> list[str]:
    """The fastest configuration of each precision, whatever its hint, the fastest of all first."""
    order = sorted(passed, key=lambda name: statistics.median(latencies.samples[name]))
    best: dict[str, str] = {}
    for name in order:
        best.setdefault(passed[name].precision, name)
    return list(best.values())


def _percentiles(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {key_of(name, key): value for name, values in samples.items() for key, value in percentiles(values).items()}


def _described(configuration: Configuration, backend: Backend) -> dict[str, str]:
    digest = {"sha256": configuration.sha256} if configuration.sha256 else {}
    return backend.describe() | {"precision": configuration.precision} | digest

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
    cold_start,
    conditions,
    device_hooks,
    end_to_end,
    latency,
    layers,
    sensors,
    throughput,
)
from benchmarks.measure.accuracy import Judged
from benchmarks.measure.configurations import Side, sides
from benchmarks.measure.inputs import Inputs, set_digest, studies_digest
from benchmarks.measure.statistics import percentiles, ratio
from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers import trtexec
from benchmarks.peers.baselines import Peers
from benchmarks.results import names
from benchmarks.results.names import part
from benchmarks.results.recorder import Recorder
from benchmarks.settings import Settings
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError, VerdictError
from dtvit_edge.progress import Progress
from dtvit_edge.scoring.prefetch import default_workers
from evaluation.records import Record

WARM_UP_NOTE = "warm-up is kept apart, in options.warm_up"
INSIDE_SCRIPTS = "the peers' scripts: read, preprocess, infer, aggregate; no planning pass, nothing written, model open"


@dataclass
class Work:
    """A bundle's opened sides.

    Attributes:
        judged, backends: by name of the side; left_out: why a side has no latency, by its name.
    """

    bundle: Bundle
    weights: Path | None
    inputs: Inputs
    settings: Settings
    progress: Progress
    say: Callable[[str], None]
    judged: dict[str, Judged] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    yardstick: Yardstick = field(default_factory=Yardstick)

    @property
    def _record(self) -> Recorder:
        return Recorder(self.bundle, self.inputs.data, self.settings, self.left_out, self.yardstick)

    def records(self) -> Iterator[Record]:
        """Everything that was asked for; the first record is the accuracy's.

        Raises:
            VerdictError: not one side passed; the accuracy's record has been given by then.
        """
        with ExitStack() as stack:
            peers = Peers(self.bundle, self.weights, self.settings, self.progress).open()
            yield self._accuracy(stack, peers)
            passed = {name: j.side for name, j in self.judged.items() if j.why_not is None}
            if not passed:
                raise VerdictError(f"{self.bundle.manifest.name}: no configuration passed, and nothing was timed")
            found = self._latency(passed, peers)
            yield found
            fastest = _fastest(found, passed)[: 1 if self.settings.effort.quick else None]
            yield self._stages(peers)
            yield self._throughput(passed)
            if self.settings.duration_s:
                yield self._sustained(passed[fastest[0]])
            if self.settings.layers:
                yield from self._layers(passed)
            yield self._end_to_end([passed[name] for name in fastest], peers)
        yield from self._cold([passed[name] for name in fastest])
        if self.settings.peers:
            yield from self._trtexec()

    def _accuracy(self, stack: ExitStack, peers: Peers) -> Record:
        bundle, slices = self.bundle, self.inputs.judging
        candidates, self.left_out = sides(bundle, self.settings)
        candidates.sort(key=lambda side: side != accuracy.reference_side(bundle))  # stable, the reference first
        right: accuracy.Reference | None = None
        for side in candidates:
            try:
                backend = stack.enter_context(side.create(self.settings.threads))
            except DtvitError as error:
                self.left_out[side.name] = str(error).replace(str(bundle.path), bundle.path.name)
                continue
            if right is None:
                opened = backend if side == accuracy.reference_side(bundle) else None
                right = accuracy.reference(bundle, slices.pixels, peers.reference, opened, self.progress)
            found = accuracy.judge(side, backend, slices, right, self.settings, self.progress)
            self.judged[side.name], self.backends[side.name] = found, backend
            if found.why_not is not None:
                self.left_out[side.name] = f"failed: {found.why_not}"
                self.say(f"{side.name}: not timed, {found.why_not}")
        if right is None:
            raise VerdictError(f"{bundle.manifest.name}: no side could be opened: {self.left_out}")
        samples = accuracy.samples(self.judged.values(), slices)
        summary = {k: v for found in self.judged.values() for k, v in found.summary().items()}
        extra = {
            "reference": right.name,
            "verdicts": {name: found.gate.verdict for name, found in self.judged.items()},
            "reasons": {name: list(found.gate.reasons) for name, found in self.judged.items()},
            "limits": asdict(self.settings.limits),
            "threshold": bundle.manifest.thresholds["ich"],
            "sides": {name: _described(self.judged[name].side, b) for name, b in self.backends.items()},
        }
        return self._record(names.ACCURACY, names.PROBABILITY, samples, summary, extra, {"slices": set_digest(slices)})

    def _latency(self, passed: Mapping[str, Side], peers: Peers) -> Record:
        pixels = self.inputs.judging.pixels
        mark, no_ranges = device_hooks.ranges()
        null = latency.NullBackend()
        calls = {name: latency.one_slice(self.backends[name].infer, pixels) for name in passed}
        calls |= peers.calls(pixels) | {names.NULL: latency.one_slice(null.infer, pixels)}
        before, pools = conditions.look(), self.settings.threads != 1
        with self.progress("latency", 1) as step, mark("latency"), conditions.OtherWork() as others:
            warm_up, samples = latency.measure(calls, self.settings.effort, self.yardstick, pools=pools)
            step(1)
        after = conditions.look()
        summary = _percentiles(samples)
        fastest = min(passed, key=lambda name: statistics.median(samples[name]))
        summary["harness: share of the fastest side"] = statistics.median(samples[names.NULL]) / statistics.median(
            samples[fastest]
        )
        for name in peers.opened:
            for own in passed:
                found = ratio(samples[name], samples[own], paired=True, seed=self.settings.seed)
                key = part(own, f"times as fast as {name}")
                summary |= {key: found.value, f"{key}, low": found.low, f"{key}, high": found.high}
        count = len(samples[fastest])
        for name in passed:
            for stage, values in device_hooks.device_ms(self.backends[name], pixels, count).items():
                samples[part(name, f"device {stage}")] = values
        extra = {
            "inside": f"{latency.INSIDE_PAUSED if pools else latency.INSIDE}; {WARM_UP_NOTE}",
            "warm_up": warm_up,
            "before": asdict(before),
            "after": asdict(after),
            names.OTHERS: others.cores,
            "nvtx": no_ranges or "ranges were written",
            "device_time": "of an engine, between CUDA events, the copies apart"
            if any(": device " in name for name in samples)
            else "no backend here runs on a device",
            "peers_left_out": peers.left_out,
            "peers_difference": peers.differences,
        }
        return self._record(names.LATENCY, names.MS, samples, summary, extra)

    def _stages(self, peers: Peers) -> Record:
        header = self.inputs.middle
        calls = latency.stage_calls(header.file, self.bundle.manifest.spec) | peers.stage_calls(header.file)
        with self.progress("stages", 1) as step:
            _, samples = latency.measure(calls, self.settings.effort, self.yardstick)
            step(1)
        extra = {"inside": latency.INSIDE_STAGES, "matrix": f"{header.rows} x {header.columns}",
                 "peers_left_out": peers.left_out}  # fmt: skip
        return self._record(names.STAGES, names.MS, samples, _percentiles(samples), extra)

    def _throughput(self, passed: Mapping[str, Side]) -> Record:
        found_sensors, absent = sensors.find()
        effort = self.settings.effort
        samples: dict[str, list[float]] = {}
        summary: dict[str, float] = {}
        refused: dict[str, str] = {}
        with self.progress("throughput", len(passed)) as step:
            for name in passed:
                with device_hooks.ranges()[0](f"throughput: {name}"):
                    found, why_not = throughput.sweep(
                        self.backends[name].infer,
                        self.inputs.judging.pixels,
                        effort.batches,
                        effort.seconds_a_batch,
                        found_sensors,
                        partial(self._mark, name),
                    )
                for one in found:
                    key = names.at_batch(name, one.batch)
                    samples[key] = one.slices_a_second
                    summary[part(key, names.RATE)] = one.rate
                    summary |= {part(key, f"{rail} a slice"): v for rail, v in one.joules_a_slice().items()}
                    summary |= {part(key, k): v for k, v in one.sensors.items() if k.endswith("memory_bytes_max")}
                refused |= {names.at_batch(name, batch): why for batch, why in why_not.items()}
                held = device_hooks.device_bytes(self.backends[name])
                summary |= {} if held is None else {part(name, "device_bytes"): float(held)}
                step(1)
        extra = {"inside": throughput.INSIDE, "sensors_absent": absent, "refused": refused}
        return self._record(names.THROUGHPUT, names.RATE, samples, summary, extra)

    def _sustained(self, side: Side) -> Record:
        backend, before = self.backends[side.name], conditions.look()
        with self.progress(f"sustained: {side.name}", 1) as step:
            self.yardstick.take()
            ms = throughput.sustained(
                backend.infer, self.inputs.judging.pixels, backend.batch, self.settings.duration_s
            )
            self.yardstick.take()
            step(1)
        found = throughput.drift(ms)
        summary = {"drift": found.value, "drift, low": found.low, "drift, high": found.high}
        extra = {"batch": backend.batch, "seconds": self.settings.duration_s, "verdict": found.verdict,
                 "before": asdict(before), "after": asdict(conditions.look()), "inside": throughput.INSIDE}  # fmt: skip
        return self._record(names.SUSTAINED, names.MS, {side.name: ms}, summary, extra)

    def _layers(self, passed: Mapping[str, Side]) -> Iterator[Record]:
        samples: dict[str, list[float]] = {}
        without = []
        for name, side in passed.items():
            pixels = self.inputs.judging.pixels[:1]
            found = layers.largest(layers.profile(side, self.backends[name], pixels, self.settings.threads))
            samples |= {part(name, layer): [value] for layer, value in found}
            without += [] if found else [name]
        if samples:
            extra = {"calls": layers.CALLS, "without_a_profile": without}
            yield self._record(names.LAYERS, names.MS, samples, {}, extra)

    def _end_to_end(self, chosen: list[Side], peers: Peers) -> Record:
        threads, effort = self.settings.threads, self.settings.effort
        folders = self.inputs.folders
        runs = {side.name: partial(end_to_end.score, side, folders, threads) for side in chosen}
        runs |= {
            names.with_workers(chosen[0].name, n): partial(end_to_end.score, chosen[0], folders, threads, n)
            for n in effort.workers
        }
        scripts = peers.pipelines([header.file for header in self.inputs.headers])
        with self.progress("from folder to result", effort.rounds * (len(runs) + len(scripts))) as step:
            found = end_to_end.measure(runs | scripts, effort.rounds, step, self.yardstick.take)
        summary = found.summary()
        for script in scripts:
            for side in chosen:
                summary |= found.against(side.name, script, self.settings.seed)
        counted = {name: {"slices": w.slices, "studies": len(w.flagged)} for name, w in found.last.items()}
        extra = {"inside": end_to_end.INSIDE, "inside_scripts": INSIDE_SCRIPTS if scripts else "", "counted": counted,
                 "studies": self.inputs.studies, "workers": default_workers()}  # fmt: skip
        digests = {"studies": studies_digest(self.inputs.plan)}
        return self._record(names.END_TO_END, names.MS, found.samples, summary, extra, digests)

    def _cold(self, chosen: list[Side]) -> Iterator[Record]:
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, list[float]] = {}
        with self.progress("cold start", len(chosen)) as step:
            for side in chosen:
                found = cold_start.measure(
                    side,
                    self.inputs.middle.file,
                    self.settings.effort.cold_starts,
                    self.settings.threads,
                    partial(self.yardstick.take, side.name),
                )
                seconds[side.name] = found.seconds
                peaks[side.name] = [float(peak) for peak in found.peak_bytes]
                step(1)
        medians = {part(name, "median"): statistics.median(values) for name, values in seconds.items()}
        yield self._record(names.COLD, names.SECONDS, seconds, medians, {"inside": cold_start.INSIDE})
        files = {names.file(name): float(record.bytes) for name, record in self.bundle.manifest.models.items()}
        largest = {part(name, "max"): max(values) for name, values in peaks.items()}
        yield self._record(names.MEMORY, names.BYTES, peaks, largest | files, {"inside": cold_start.INSIDE})

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
        self.yardstick.take(names.at_batch(name, batch))


def _fastest(found: Record, passed: Mapping[str, Side]) -> list[str]:
    """The fastest side of each precision, whatever its hint, the fastest of all first."""
    order = sorted(passed, key=lambda name: statistics.median(found.samples[name]))
    best: dict[str, str] = {}
    for name in order:
        best.setdefault(passed[name].precision, name)
    return list(best.values())


def _percentiles(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {part(name, key): value for name, values in samples.items() for key, value in percentiles(values).items()}


def _described(side: Side, backend: Backend) -> dict[str, str]:
    return backend.describe() | {"precision": side.precision} | ({"sha256": side.sha256} if side.sha256 else {})

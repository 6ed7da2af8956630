"""The report's tables, each from records."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.measure.statistics import QUANTILES, least_samples, percentiles
from benchmarks.report.verdicts import MIB, verdicts
from benchmarks.report.view import View
from benchmarks.results import names
from benchmarks.results.names import part
from evaluation.gate import NOT_ASSESSED
from evaluation.metrics import LEVEL, RESAMPLES
from evaluation.records import interval_text
from evaluation.tables import Table

NOTHING = "–"


def verdict_table(view: View) -> Table:
    """One sentence a precision."""
    return Table("verdicts", f"Verdicts: {view.title}", ("precision", "verdict"), tuple(verdicts(view)))


def accuracy(view: View) -> Table:
    """Every side against the reference and the labels."""
    record, options = view.accuracy, view.accuracy.options
    rows = []
    for side in view.sides:
        figures = {key.removeprefix(f"{side}: "): v for key, v in record.summary.items() if key.startswith(f"{side}: ")}

        def shown(name: str, form: str, own: dict[str, float] = figures) -> str:
            return form.format(own[name]) if name in own else NOT_ASSESSED

        def interval(name: str, own: dict[str, float] = figures) -> str:
            return interval_text(own, name) or NOT_ASSESSED

        rows.append((
            side,
            f"{shown('selftest_worst', '{:.1e}')} of {shown('selftest_tolerance', '{:.1e}')}",
            str(options["verdicts"][side]),
            shown("agreement", "{:.4f}"),
            shown("flips", "{:.0f}"),
            shown("largest_difference", "{:.2g}"),
            shown("auc_difference", "{:+.5f}"),
            interval("ich_recall"),
            interval("ich_specificity"),
            interval("ich_auc"),
            interval("location_accuracy"),
        ))  # fmt: skip
    columns = ("side", "self-test: worst of allowed", "gate", "ICH agrees", "flips", "largest |dp|", "dAUC",
               "sensitivity", "specificity", "AUC", "location accuracy")  # fmt: skip
    limits = options["limits"]
    notes = (
        f"{view.slices} slices ({options['data']}); the reference is {options['reference']}; threshold "
        f"{options['threshold']['value']:g} ({options['threshold']['source']})",
        f"the gate asks for {limits['agreement']:.2%} equal decisions, dAUC of {limits['auc']:g} at most and "
        f"{limits['slices']} slices; with fewer it is inconclusive",
        f"in brackets: {LEVEL:.0%} bootstrap intervals over patients, {RESAMPLES} resamples"
        if any(key.endswith("_low") for key in record.summary)
        else "a quick run draws no intervals: over so few patients they would say nothing",
        *(f"{side}: {'; '.join(why)}" for side, why in options["reasons"].items() if why),
    )
    return Table("accuracy", f"Accuracy, judged before anything was timed: {view.title}", columns, tuple(rows), notes)


def latency(view: View) -> Table | str:
    """Percentiles of one slice in the model, as far as there are samples."""
    record = view.records.get(names.LATENCY)
    if record is None:
        return f"### Latency: {view.title}\n\nNothing was timed: no configuration passed.\n"
    peers = view.peers()
    shown = peers[:1]  # PyTorch eager; the ratios to the others are in the record
    labels = [f"p{q * 100:.0f}" for q in QUANTILES]
    rows = []
    for side in [*view.passed, *peers, names.NULL]:
        samples = record.samples[side]
        found = percentiles(samples)
        ratios = [_against(view, side, peer) for peer in shown]
        rows.append((side, str(len(samples)), *(_ms(found.get(label)) for label in labels), *ratios))
    columns = ("side", "samples", *(f"{label}, ms" for label in labels), *(f"against {peer}" for peer in shown))
    floors = ", ".join(f"{label} {least_samples(q)}" for label, q in zip(labels, QUANTILES, strict=True))
    share = record.summary["harness: share of the fastest side"]
    notes = [
        f"inside the timer: {record.options['inside']}",
        f"a percentile is shown from so many samples on: {floors}",
        f"{names.NULL} is a backend that answers at once: the harness adds {share:.3%} of the fastest side's time",
        f"device time: {record.options['device_time']}",
        f"NVTX: {record.options['nvtx']}",
        *(f"not timed: {side}: {why}" for side, why in view.left_out.items()),
        *(f"peer not timed: {peer}: {why}" for peer, why in record.options["peers_left_out"].items()),
    ]
    device = [
        (name, str(len(values)), f"{statistics.median(values):.4g} ms")
        for name, values in record.samples.items()
        if ": device " in name
    ]
    notes += [f"{name}: median {value} of {count}" for name, count, value in device]
    return Table("latency", f"Latency of one slice in the model: {view.title}", columns, tuple(rows), tuple(notes))


def stages(view: View) -> Table | None:
    """What a slice costs before the model."""
    record = view.records.get(names.STAGES)
    if record is None:
        return None
    rows = tuple(
        (stage, str(len(values)), f"{statistics.median(values):.3f}", _ms(percentiles(values).get("p90")))
        for stage, values in record.samples.items()
    )
    notes = (str(record.options["inside"]), f"one file, {record.options['matrix']}, from the page cache")
    return Table("stages", f"Stages before the model: {view.title}", ("stage", "samples", "median, ms", "p90, ms"),
                 rows, notes)  # fmt: skip


def throughput(view: View) -> Table | None:
    """Slices a second by batch size, and joules a slice where a sensor says."""
    record = view.records.get(names.THROUGHPUT)
    if record is None:
        return None
    found: dict[str, dict[int, str]] = {}
    for key in record.samples:
        side, batch = names.side_and_batch(key)
        joules = [v for k, v in record.summary.items() if k.startswith(f"{key}: ") and k.endswith("joules a slice")]
        more = f", {max(joules):.3g} J a slice" if joules else ""
        found.setdefault(side, {})[batch] = f"{record.summary[part(key, names.RATE)]:.4g}{more}"
    batches = sorted({batch for own in found.values() for batch in own})
    rows = tuple((side, *(own.get(batch, NOTHING) for batch in batches)) for side, own in found.items())
    absent = [f"energy: no {name}: {why}" for name, why in record.options["sensors_absent"].items()]
    refused = [f"{key}: {why}" for key, why in record.options["refused"].items()]
    held = [f"{key.removesuffix(': device_bytes')}: {value / MIB:.0f} MiB of device memory at most"
            for key, value in record.summary.items() if key.endswith(": device_bytes")]  # fmt: skip
    if not held:
        held = ["device memory: no backend here runs on a device"]
    notes = (str(record.options["inside"]), *absent, *refused, *held)
    return Table("throughput", f"Throughput, slices a second: {view.title}",
                 ("side", *(f"batch {batch}" for batch in batches)), rows, notes)  # fmt: skip


def end_to_end(view: View) -> Table | None:
    """From folder to result, beside the peers' plain scripts."""
    record = view.records.get(names.END_TO_END)
    if record is None:
        return None
    suffix = f": {names.A_SLICE}"
    order = [key.removesuffix(suffix) for key in record.samples if key.endswith(suffix)]
    order.sort(key=lambda side: statistics.median(record.samples[part(side, names.A_SLICE)]))
    scripts = [side for side in order if side in _scripts(view)][-1:]  # the slowest; the record has all ratios
    rows = []
    for side in order:
        slices = record.samples[part(side, names.A_SLICE)]
        opening = record.samples.get(part(side, names.OPENING))
        rows.append((
            side,
            str(len(slices)),
            f"{statistics.median(slices):.4g}",
            f"{record.summary[part(side, 'studies a minute')]:.4g}",
            f"{statistics.median(opening) / 1e3:.3g}" if opening else NOTHING,
            *(_compared(view, side, script) for script in scripts),
        ))  # fmt: skip
    columns = ("side", "rounds", "ms a slice", "studies a minute", "opening, s",
               *(f"against {script}" for script in scripts))  # fmt: skip
    decided = {key: value for key, value in record.summary.items() if "decided as by" in key or "flagged as by" in key}
    same = [f"{key}: {value:.2%}" for key, value in decided.items() if value < 1]
    if decided and not same:
        same = ["every slice is decided and every study flagged as by every one of the peers' scripts"]
    counted = next(iter(record.options["counted"].values()))
    told = [f"{record.options['studies']}: {counted['slices']} slices of {counted['studies']} studies",
            f"{record.options['workers']} threads read ahead where no number is said"]  # fmt: skip
    told += [record.options["inside_scripts"]] if record.options["inside_scripts"] else []
    notes = (str(record.options["inside"]), *told, *same)
    return Table("end-to-end", f"From folder to result: {view.title}", columns, tuple(rows), notes)


def needs(view: View) -> Table | None:
    """Cold start, memory and file sizes."""
    cold, memory = view.records.get(names.COLD), view.records.get(names.MEMORY)
    if cold is None or memory is None:
        return None
    rows = tuple(
        (
            side,
            str(len(values)),
            f"{statistics.median(values):.2f}",
            f"{max(memory.samples[side]) / MIB:.0f}",
            _size(view.model_bytes(side)),
        )
        for side, values in cold.samples.items()
    )
    columns = ("side", "processes", "cold start, s (median)", "peak memory, MiB", "model file, MiB")
    return Table("needs", f"Cold start and memory: {view.title}", columns, rows, (str(cold.options["inside"]),))


def layers(view: View) -> Table | None:
    """Milliseconds by layer, the costliest first."""
    record = view.records.get(names.LAYERS)
    if record is None:
        return None
    rows = tuple((*key.rsplit(": ", 1), f"{values[0]:.3f}") for key, values in record.samples.items())
    notes = [f"mean of {record.options['calls']} calls of one slice with the library's profiler on, which costs time"]
    notes += [f"{side}: its backend has no profile" for side in record.options["without_a_profile"]]
    return Table("layers", f"Layers: {view.title}", ("side", "layer", "ms"), rows, tuple(notes))


def conditions(view: View) -> Table:
    """The machine, before and after the latency."""
    record = view.records.get(names.LATENCY, view.accuracy)
    before, after = (record.options.get(when, {"facts": {}, "absent": {}}) for when in ("before", "after"))
    machine = dict(record.environment["machine"])
    rows = [(name, value, "") for name, value in machine.items()]
    rows += [(name, value, after["facts"].get(name, "")) for name, value in before["facts"].items()]
    rows += [(name, f"not readable here: {why}", "") for name, why in before["absent"].items()]
    versions = ", ".join(f"{name} {number}" for name, number in record.environment["packages"].items())
    digests = [f"{what}: sha256 {digest}" for what, digest in _digests(view).items()]
    trtexec = [f"`{line}`" for line in record.options["trtexec"]]
    absent = record.options["trtexec_absent"]
    notes = (
        f"command: `{record.options['command']}`", f"versions: {versions}", *digests,
        "the same graphs by TensorRT's own tool" + (f" ({absent})" if absent else "") + ":", *trtexec,
    )  # fmt: skip
    return Table("conditions", f"Where and how it was measured: {view.title}", ("what", "before", "after"),
                 tuple(rows), notes)  # fmt: skip


def trtexec(view: View) -> Table | None:
    """NVIDIA's tool's own times."""
    record = view.records.get(names.TRTEXEC)
    if record is None:
        return None
    rows = tuple(
        (precision, str(len(values)), f"{statistics.median(values):.4g}")
        for precision, values in record.samples.items()
    )
    failed = tuple(f"{precision}: {why}" for precision, why in record.options["failed"].items())
    return Table("trtexec", f"trtexec, a process of its own: {view.title}", ("graph", "queries", "latencyMs, median"),
                 rows, failed)  # fmt: skip


TABLES: tuple[Callable[[View], Table | str | None], ...] = (
    verdict_table, accuracy, latency, stages, end_to_end, throughput, needs, layers, trtexec, conditions,
)  # fmt: skip


def _digests(view: View) -> dict[str, str]:
    found: dict[str, str] = {}
    for record in view.records.values():
        found |= record.digests
    return found


def _scripts(view: View) -> set[str]:
    """The peers' scripts among what was run from folder to result: no side is theirs, with any number of workers."""
    return {
        name for name in view.records[names.END_TO_END].options["counted"] if not name.startswith(tuple(view.sides))
    }


def _against(view: View, side: str, peer: str) -> str:
    if side in (peer, names.NULL) or side not in view.passed:
        return NOTHING
    found = view.ratio(peer, side)
    return f"{found.value:.2f} times as fast ({found.low:.2f} to {found.high:.2f})"


def _compared(view: View, side: str, pipeline: str) -> str:
    value, low, high = (
        view.figure(names.END_TO_END, side, f"times as fast as {pipeline}{end}") for end in ("", ", low", ", high")
    )
    if value is None:
        return NOTHING
    return f"{value:.2f} times as fast" + (f" ({low:.2f} to {high:.2f})" if low is not None else "")


def _ms(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _size(value: float | None) -> str:
    return NOTHING if value is None else f"{value / MIB:.1f}"

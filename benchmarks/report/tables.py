"""The report's tables, each from records."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.measure.statistics import QUANTILES, least_samples, percentiles
from benchmarks.report.bedside_table import bedside
from benchmarks.report.other_int8 import other_int8
from benchmarks.report.run_view import BatchRate, RunView, batch_rates
from benchmarks.report.verdicts import MIB, verdicts
from benchmarks.results import names
from benchmarks.results.names import key_of
from evaluation.gate import NOT_ASSESSED
from evaluation.metrics import LEVEL, RESAMPLES
from evaluation.records import interval_text
from evaluation.tables import Table

EMPTY_CELL = "–"


def verdict_table(view: RunView) -> Table:
    """One sentence a precision."""
    return Table("verdicts", f"Verdicts: {view.title}", ("precision", "verdict"), tuple(verdicts(view)))


def accuracy(view: RunView) -> Table:
    """Every configuration against the reference and the labels."""
    record, options = view.accuracy, view.accuracy.options
    by_configuration = names.by_contender(record.summary)
    rows = []
    for configuration in view.configurations:
        figures = by_configuration.get(configuration, {})

        def shown(name: str, form: str, values: dict[str, float] = figures) -> str:
            return form.format(values[name]) if name in values else NOT_ASSESSED

        def interval(name: str, values: dict[str, float] = figures) -> str:
            return interval_text(values, name) or NOT_ASSESSED

        rows.append((
            configuration,
            f"{shown('selftest_worst', '{:.1e}')} of {shown('selftest_tolerance', '{:.1e}')}",
            view.verdict(configuration),
            shown("agreement", "{:.4f}"),
            shown("flips", "{:.0f}"),
            shown("largest_difference", "{:.2g}"),
            shown("auc_difference", "{:+.5f}"),
            interval("ich_recall"),
            interval("ich_specificity"),
            interval("ich_auc"),
            interval("location_accuracy"),
        ))  # fmt: skip
    columns = ("configuration", "self-test: worst of allowed", "gate", "ICH agrees", "flips", "largest |dp|", "dAUC",
               "sensitivity", "specificity", "AUC", "location accuracy")  # fmt: skip
    limits = options["limits"]
    notes = (
        f"{view.slices} slices ({options['data']}); the reference is {view.reference}; threshold "
        f"{options['threshold']['value']:g} ({options['threshold']['source']})",
        f"the gate asks for {limits['agreement']:.2%} equal decisions, dAUC of {limits['auc']:g} at most and "
        f"{limits['slices']} slices; with fewer it is inconclusive",
        *_switched_off(view),
        f"in brackets: {LEVEL:.0%} bootstrap intervals over patients, {RESAMPLES} resamples"
        if any(key.endswith("_low") for key in record.summary)
        else "a quick run draws no intervals: over so few patients they would say nothing",
        *(f"{configuration}: {'; '.join(why)}" for configuration, why in options["reasons"].items() if why),
    )
    return Table("accuracy", f"Accuracy, judged before anything was timed: {view.title}", columns, tuple(rows), notes)


def scanners(view: RunView) -> Table | None:
    """Every configuration under each shift of the scanner; None where none was made."""
    suffix, summary = ", agreement", names.by_contender(view.accuracy.summary)
    first = summary.get(view.configurations[0], {}) if view.configurations else {}
    shifts = [figure.removesuffix(suffix) for figure in first if figure.endswith(suffix)]
    if not shifts:
        return None

    def cell(configuration: str, shift: str) -> str:
        agreement, high = (
            view.figure(names.ACCURACY, configuration, f"{shift}, {figure}")
            for figure in ("agreement", "high_difference")
        )
        return NOT_ASSESSED if agreement is None else f"{agreement:.2%}, {high or 0:.3f}"

    rows = tuple((shift, *(cell(name, shift) for name in view.configurations)) for shift in shifts)
    limits = view.accuracy.options["limits"]
    notes = (
        "slices decided as the reference does, and what 99.5 % of the probabilities differ by at most",
        f"the gate asks for {limits['shift_agreement']:.2%} and {limits['difference']:g} at most under every shift, of "
        f"{limits['shift_slices']} slices at most",
    )
    return Table("scanners", f"Shifts of the scanner: {view.title}", ("scanner", *view.configurations), rows, notes)


def _switched_off(view: RunView) -> list[str]:
    """What a reader has to know of a gate that asks less than this project's."""
    if view.limits_off:
        return [f"not gated: limits were switched off ({', '.join(view.limits_off)})"]
    return (
        [] if "shift_agreement" in view.accuracy.options["limits"] else ["the gate of that time judged at home alone"]
    )


def latency(view: RunView) -> Table | str:
    """Percentiles of one slice in the model, as far as there are samples."""
    record = view.records.get(names.LATENCY)
    if record is None:
        return f"### Latency: {view.title}\n\nNothing was timed: no configuration passed.\n"
    peers = view.peers()
    shown = peers[:1]  # PyTorch eager; the ratios to the others are in the record
    labels = [f"p{q * 100:.0f}" for q in QUANTILES]
    rows = []
    for contender in [*view.passed, *peers, names.NULL_BACKEND]:
        samples = record.samples[contender]
        quantiles = percentiles(samples)
        ratios = [_against(view, contender, peer) for peer in shown]
        rows.append((contender, str(len(samples)), *(_ms(quantiles.get(label)) for label in labels), *ratios))
    columns = ("contender", "samples", *(f"{label}, ms" for label in labels), *(f"against {peer}" for peer in shown))
    floors = ", ".join(f"{label} {least_samples(q)}" for label, q in zip(labels, QUANTILES, strict=True))
    share = record.summary["harness: share of the fastest configuration"]
    notes = [
        f"inside the timer: {record.options['inside']}",
        f"a percentile is shown from so many samples on: {floors}",
        f"{names.NULL_BACKEND} is a backend that answers at once: the harness adds {share:.3%} of the fastest time",
        f"device time: {record.options['device_time']}",
        f"NVTX: {record.options['nvtx']}",
        *(f"not timed: {contender}: {why}" for contender, why in view.left_out.items()),
        *(f"peer not timed: {peer}: {why}" for peer, why in record.options["peers_left_out"].items()),
    ]
    notes += [
        f"{name}: {stage}: median {statistics.median(values):.4g} ms of {len(values)}"
        for name, by_stage in names.by_contender(record.samples).items()
        for stage, values in by_stage.items()
        if stage
    ]
    modes = {name: found for name in [*view.passed, *peers] if (found := view.modes(name))}
    notes += [f"{name}: two modes, {low:.4g} and {high:.4g} ms" for name, (low, high) in modes.items()]
    return Table("latency", f"Latency of one slice in the model: {view.title}", columns, tuple(rows), tuple(notes))


def stages(view: RunView) -> Table | None:
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


def throughput(view: RunView) -> Table | None:
    """Slices a second by batch size, and joules a slice where a sensor says."""
    record = view.records.get(names.THROUGHPUT)
    if record is None:
        return None
    rates = batch_rates(record)
    batches = sorted({batch for by_batch in rates.values() for batch in by_batch})
    rows = tuple(
        (configuration, *(_rate(by_batch.get(batch)) for batch in batches)) for configuration, by_batch in rates.items()
    )
    absent = [f"energy: no {name}: {why}" for name, why in record.options["sensors_absent"].items()]
    refused = [f"{key}: {why}" for key, why in record.options["refused"].items()]
    held = [
        f"{name}: {figures[names.DEVICE_BYTES] / MIB:.0f} MiB of device memory at most"
        for name, figures in names.by_contender(record.summary).items()
        if names.DEVICE_BYTES in figures
    ] or ["device memory: no backend here runs on a device"]
    notes = (str(record.options["inside"]), *absent, *refused, *held)
    return Table("throughput", f"Throughput, slices a second: {view.title}",
                 ("configuration", *(f"batch {batch}" for batch in batches)), rows, notes)  # fmt: skip


def end_to_end(view: RunView) -> Table | None:
    """From folder to result, compared with the peers' plain scripts."""
    record = view.records.get(names.END_TO_END)
    if record is None:
        return None
    samples = names.by_contender(record.samples)
    order = sorted(samples, key=lambda contender: statistics.median(samples[contender][names.PER_SLICE]))
    scripts = [contender for contender in order if contender in _scripts(view)][
        -1:
    ]  # the slowest; the record has all ratios
    rows = []
    for contender in order:
        slices, opening = samples[contender][names.PER_SLICE], samples[contender].get(names.MODEL_OPENING)
        rows.append((
            contender,
            str(len(slices)),
            f"{statistics.median(slices):.4g}",
            f"{record.summary[key_of(contender, 'studies a minute')]:.4g}",
            f"{statistics.median(opening) / 1e3:.3g}" if opening else EMPTY_CELL,
            *(str(view.times_as_fast(names.END_TO_END, contender, script) or EMPTY_CELL) for script in scripts),
        ))  # fmt: skip
    columns = ("contender", "rounds", "ms a slice", "studies a minute", "opening, s",
               *(f"against {script}" for script in scripts))  # fmt: skip
    decided = {key: value for key, value in record.summary.items() if "decided as by" in key or "flagged as by" in key}
    same = [f"{key}: {value:.2%}" for key, value in decided.items() if value < 1]
    if decided and not same:
        same = ["every slice is decided and every study flagged as by every one of the peers' scripts"]
    counted = next(iter(record.options["counted"].values()))
    counts = [f"{record.options['studies']}: {counted['slices']} slices of {counted['studies']} studies",
            f"{record.options['workers']} threads read ahead where no number is said"]  # fmt: skip
    counts += [record.options["inside_scripts"]] if record.options["inside_scripts"] else []
    notes = (str(record.options["inside"]), *counts, *same)
    return Table("end-to-end", f"From folder to result: {view.title}", columns, tuple(rows), notes)


def needs(view: RunView) -> Table | None:
    """Cold start, memory and file sizes."""
    cold, memory = view.records.get(names.COLD_START), view.records.get(names.MEMORY)
    if cold is None or memory is None:
        return None
    cpu = cold.options.get(names.CPU_SECONDS, {})
    rows = tuple(
        (
            configuration,
            str(len(values)),
            f"{statistics.median(values):.2f}",
            f"{statistics.median(cpu[configuration]):.2f}" if configuration in cpu else EMPTY_CELL,
            f"{max(memory.samples[configuration]) / MIB:.0f}",
            _size(view.model_bytes(configuration)),
        )
        for configuration, values in cold.samples.items()
    )
    columns = ("configuration", "processes", "cold start, s (median)", "CPU time, s (median)", "peak memory, MiB",
               "model file, MiB")  # fmt: skip
    return Table("needs", f"Cold start and memory: {view.title}", columns, rows, (str(cold.options["inside"]),))


def layers(view: RunView) -> Table | None:
    """Milliseconds by layer, the costliest first."""
    record = view.records.get(names.LAYERS)
    if record is None:
        return None
    rows = tuple(
        (configuration, layer, f"{values[0]:.3f}")
        for configuration, by_layer in names.by_contender(record.samples).items()
        for layer, values in by_layer.items()
    )
    notes = [f"mean of {record.options['calls']} calls of one slice with the library's profiler on, which costs time"]
    notes += [f"{configuration}: its backend has no profile" for configuration in record.options["without_a_profile"]]
    return Table("layers", f"Layers: {view.title}", ("configuration", "layer", "ms"), rows, tuple(notes))


def conditions(view: RunView) -> Table:
    """The machine, before and after the latency."""
    record = view.records.get(names.LATENCY, view.accuracy)
    before, after = (record.options.get(when, {"observed": {}, "absent": {}}) for when in ("before", "after"))
    machine = dict(record.environment["machine"])
    rows = [(name, value, "") for name, value in machine.items()]
    rows += [(name, value, after["observed"].get(name, "")) for name, value in before["observed"].items()]
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


def trtexec(view: RunView) -> Table | None:
    """NVIDIA's tool's own times."""
    record = view.records.get(names.TRTEXEC)
    if record is None:
        return None
    rows = tuple(
        (precision, str(len(values)), f"{statistics.median(values):.4g}")
        for precision, values in record.samples.items()
    )
    failed = tuple(f"{precision}: {why}" for precision, why in record.options["failed"].items())
    return Table("trtexec", f"trtexec, a separate process: {view.title}", ("graph", "queries", "latencyMs, median"),
                 rows, failed)  # fmt: skip


TABLES: tuple[Callable[[RunView], Table | str | None], ...] = (
    verdict_table, accuracy, scanners, latency, other_int8, stages, end_to_end, throughput, needs, bedside, layers,
    trtexec, conditions,
)  # fmt: skip


def _digests(view: RunView) -> dict[str, str]:
    digests: dict[str, str] = {}
    for record in view.records.values():
        digests |= record.digests
    return digests


def _scripts(view: RunView) -> set[str]:
    """The peers' scripts among what was run from folder to result: no name begins with that of a configuration."""
    return {
        name
        for name in view.records[names.END_TO_END].options["counted"]
        if not name.startswith(tuple(view.configurations))
    }


def _against(view: RunView, contender: str, peer: str) -> str:
    if contender in (peer, names.NULL_BACKEND) or contender not in view.passed:
        return EMPTY_CELL
    return str(view.times_as_fast(names.LATENCY, contender, peer) or EMPTY_CELL)


def _rate(rate: BatchRate | None) -> str:
    if rate is None:
        return EMPTY_CELL
    return f"{rate.slices_a_second:.4g}" + ("" if rate.joules is None else f", {rate.joules:.3g} J a slice")


def _ms(value: float | None) -> str:
    return EMPTY_CELL if value is None else f"{value:.4g}"


def _size(value: float | None) -> str:
    return EMPTY_CELL if value is None else f"{value / MIB:.1f}"

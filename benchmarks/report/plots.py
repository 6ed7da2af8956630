"""The report's pictures, each drawn from records and with its numbers beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, confusion_matrix

from benchmarks.report.run_view import RunView, batch_rates
from benchmarks.results import names
from benchmarks.results.names import key_of
from dtvit_edge.spec import HEAD_LABELS, ICH_HEAD, LOCATION_HEAD
from evaluation.metrics import HeadFigures
from evaluation.plots import Cell, Plot, confusions

BINS = 10
_WIDE = 20.0
_ROW, _HEAD = 0.34, 1.1
_MARKERS = "osD^vPX*"
_STAGES = ("open", "discover", "read", "preprocess", "infer", "aggregate", "write")


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def latency(view: RunView) -> Plot | None:
    """Every sample of one slice through every contender and peer."""
    if names.LATENCY not in view.records:
        return None
    order = sorted([*view.passed, *view.peers()], key=view.median_ms, reverse=True)
    samples = [view.records[names.LATENCY].samples[contender] for contender in order]
    figure = Figure(figsize=(9, _HEAD + _ROW * len(order)), layout="constrained")
    axes = figure.add_subplot()
    axes.boxplot(samples, orientation="horizontal", whis=(0, 100), widths=0.5, medianprops={"color": "C3"})
    rng = np.random.default_rng(0)  # only spreads the dots
    for row, values in enumerate(samples, start=1):
        axes.plot(values, row + rng.uniform(-0.15, 0.15, len(values)), ".", color="C0", alpha=0.25, markersize=4)
    axes.set_yticks(range(1, len(order) + 1), [plain(contender) for contender in order], fontsize=9)
    _milliseconds(axes, [value for values in samples for value in values])
    rows = tuple(
        (contender, i, value)
        for contender, values in zip(order, samples, strict=True)
        for i, value in enumerate(values)
    )
    return Plot(f"latency-{view.slug}", f"Latency of one slice in the model: {view.title}", figure,
                   ("contender", "round", "ms"), rows,
                   ("box: quartiles; red: median; whiskers: all samples",))  # fmt: skip


def stages(view: RunView) -> Plot | None:
    """What a slice costs by stage, from folder to result."""
    record = view.records.get(names.END_TO_END)
    if record is None:
        return None
    stage_ms: dict[str, dict[str, float]] = {}
    for contender, samples in names.by_contender(record.samples).items():
        if by_stage := names.by_stage(samples):
            stage_ms[contender] = {stage: statistics.median(ms) for stage, ms in by_stage.items()}
    # With several threads that read ahead stages overlap, and their sum says nothing.
    ours = tuple(view.configurations)
    drawn = [contender for contender in stage_ms if contender in ours or not contender.startswith(ours)]
    order = sorted(drawn, key=lambda contender: sum(stage_ms[contender].values()), reverse=True)
    known = [*_STAGES, *sorted({stage for stages_of in stage_ms.values() for stage in stages_of} - set(_STAGES))]
    figure = Figure(figsize=(9, _HEAD + 0.3 + _ROW * len(order)), layout="constrained")
    axes = figure.add_subplot()
    for row, contender in enumerate(order):
        left = 0.0
        for colour, stage in enumerate(known):
            if stage in stage_ms[contender]:
                width = stage_ms[contender][stage]
                axes.barh(row, width, left=left, color=f"C{colour}", height=0.6)
                left += width
    shown = [(c, stage) for c, stage in enumerate(known) if any(stage in stages_of for stages_of in stage_ms.values())]
    for colour, stage in shown:
        axes.barh(0, 0, color=f"C{colour}", label=plain(stage))
    axes.legend(fontsize=8, ncols=len(shown), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axes.set_yticks(range(len(order)), [plain(contender) for contender in order], fontsize=9)
    axes.set_xlabel("ms a slice", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    rows = tuple((contender, stage, value) for contender in order for stage, value in stage_ms[contender].items())
    notes = ("median over the runs of what run.json gives for a stage, divided by the slices; opening is not in it",
             "stages that overlap add up to more than the time that passes")  # fmt: skip
    return Plot(f"stages-{view.slug}", f"A slice from folder to result, by stage: {view.title}", figure,
                   ("contender", "stage", "ms"), rows, notes)  # fmt: skip


def throughput(view: RunView) -> Plot | None:
    """Slices a second over batch sizes."""
    record = view.records.get(names.THROUGHPUT)
    if record is None:
        return None
    lines = {
        configuration: [(batch, rate.slices_a_second) for batch, rate in rates.items()]
        for configuration, rates in batch_rates(record).items()
    }
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    for i, (configuration, points) in enumerate(lines.items()):
        axes.plot(*zip(*points, strict=True), marker=_MARKERS[i % len(_MARKERS)], label=plain(configuration))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(sorted({batch for points in lines.values() for batch, _ in points}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("slices a batch", fontsize=9)
    axes.set_ylabel("slices a second", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    rows = tuple((configuration, batch, rate) for configuration, points in lines.items() for batch, rate in points)
    return Plot(f"throughput-{view.slug}", f"Throughput over batch: {view.title}", figure,
                   ("configuration", "batch", "slices_per_second"), rows, (str(record.options["inside"]),))  # fmt: skip


def speed_against_accuracy(views: Sequence[RunView], place: int = 0) -> Plot | None:
    """Every precision, backend and encoder in one plane; of what was never trained the speed alone.

    Args:
        place: of the run among those of a report, from 0.
    """
    trained = [view for view in views if not view.untrained]
    aucs = [view.figure(names.ACCURACY, configuration, "ich_auc") for view in trained for configuration in view.passed]
    labelled = bool(aucs) and None not in aucs
    wanted = "ich_auc" if labelled else "agreement"
    rows: list[tuple[Cell, ...]] = []
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.add_subplot()
    backends = sorted(
        {
            view.accuracy.options["configurations"][configuration]["backend"]
            for view in views
            for configuration in view.passed
        }
    )
    for colour, view in enumerate(views):
        for configuration in view.passed:
            value = view.figure(names.ACCURACY, configuration, wanted)
            if trained and view.untrained:
                axes.axvline(view.median_ms(configuration), color=f"C{colour}", linestyle=":", alpha=0.6)
                rows.append((view.name, configuration, view.median_ms(configuration), ""))
                continue
            if value is None:
                continue
            low, high = (view.figure(names.ACCURACY, configuration, f"{wanted}_{end}") for end in ("low", "high"))
            ms = view.median_ms(configuration)
            marker = _MARKERS[
                backends.index(view.accuracy.options["configurations"][configuration]["backend"]) % len(_MARKERS)
            ]
            if low is not None and high is not None:
                axes.plot([ms, ms], [low, high], color=f"C{colour}", alpha=0.35)
            axes.plot(ms, value, marker, color=f"C{colour}", markersize=8)
            axes.annotate(
                plain(view.precision(configuration)),
                (ms, value),
                (4, 7),
                textcoords="offset points",
                fontsize=8,
                rotation=30,
            )
            rows.append((view.name, configuration, ms, value))
    if not rows:
        return None
    for colour, view in enumerate(views):
        axes.plot([], [], "s", color=f"C{colour}", label=plain(view.title))
    for i, backend in enumerate(backends):
        axes.plot([], [], _MARKERS[i % len(_MARKERS)], color="0.4", label=plain(backend))
    axes.legend(fontsize=8, loc="best")
    _milliseconds(axes, [float(row[2]) for row in rows])
    axes.margins(x=0.12)
    lowest = min(float(row[3]) for row in rows if row[3] != "")
    room = max(0.1 * (1 - lowest), 0.002)
    axes.set_ylim(lowest - 6 * room, 1 + room)
    what = "AUC of the haemorrhage head against the labels" if labelled else "share of decisions as the reference's"
    axes.set_ylabel(what, fontsize=9)
    notes = ["lines: 95 % intervals, bootstrap over patients" if labelled else "no labels for a trained model"]
    notes += ["dotted: never trained, only the speed"] if 0 < len(trained) < len(views) else []
    name = "speed-accuracy" + (f"-{place + 1}" if place else "")
    return Plot(name, "Speed against accuracy: every precision, backend and encoder", figure,
                   ("bundle", "configuration", "ms", wanted), tuple(rows), tuple(notes))  # fmt: skip


def reliability(view: RunView) -> Plot | None:
    """How often a slice of a given probability is labelled as haemorrhage (scikit-learn's `calibration_curve`)."""
    truth = np.array(view.accuracy.samples[names.ICH_LABELS])
    kept = truth >= 0
    if len(set(truth[kept].tolist())) < 2:
        return None
    rows: list[tuple[Cell, ...]] = []
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as often as it says")
    notes = []
    for i, configuration in enumerate(view.best() or view.configurations[:1]):
        probability = np.array(view.accuracy.samples[configuration])[kept]
        share, mean = calibration_curve(truth[kept], probability, n_bins=BINS, strategy="quantile")
        axes.plot(mean, share, marker=_MARKERS[i % len(_MARKERS)], label=plain(configuration))
        rows += [(configuration, float(a), float(b)) for a, b in zip(mean, share, strict=True)]
        notes.append(f"{configuration}: Brier score {brier_score_loss(truth[kept], probability):.4f}")
    axes.set_xlabel("mean probability of a bin", fontsize=9)
    axes.set_ylabel("share labelled as haemorrhage", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    notes.append(f"{BINS} bins of equally many slices; {int(kept.sum())} labelled slices")
    return Plot(f"reliability-{view.slug}", f"Reliability of the probabilities: {view.title}", figure,
                   ("configuration", "mean_probability", "share_positive"), tuple(rows), tuple(notes))  # fmt: skip


def confusion(view: RunView) -> Plot | None:
    """Confusion matrices of both heads, for the fastest configuration of every precision."""
    samples, threshold = view.accuracy.samples, float(view.accuracy.options["threshold"]["value"])
    rows = []
    for configuration in (
        view.best() or [configuration for configuration in view.configurations if configuration in samples][:1]
    ):
        ich = _matrix(samples[names.ICH_LABELS], [float(p >= threshold) for p in samples[configuration]], ICH_HEAD)
        located = samples.get(key_of(configuration, LOCATION_HEAD))
        location = _matrix(samples[names.LOCATION_LABELS], located, LOCATION_HEAD) if located else None
        rows.append((plain(configuration), ich, location))
    if not any(ich or location for _, ich, location in rows):
        return None
    notes = (f"threshold {threshold:g} ({view.accuracy.options['threshold']['source']})",)
    return confusions(rows, notes, name=f"confusion-{view.slug}", title=f"Confusion matrices: {view.title}")


def sustained(view: RunView) -> Plot | None:
    """Milliseconds of every call of a sustained run."""
    record = view.records.get(names.SUSTAINED)
    if record is None:
        return None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    ((configuration, values),) = record.samples.items()
    seconds = np.cumsum(values) / 1e3
    axes.plot(seconds, values, ".", markersize=3, alpha=0.5, label=plain(configuration))
    axes.set_xlabel("seconds", fontsize=9)
    axes.set_ylabel(f"ms a batch of {record.options['batch']}", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    s = record.summary
    notes = (f"the last fifth takes {s['drift']:.3f} times as long as the first: {record.options['verdict']}",)
    return Plot(f"sustained-{view.slug}", f"A sustained run: {view.title}", figure, ("second", "ms"),
                   tuple(zip(seconds.tolist(), values, strict=True)), notes)  # fmt: skip


def _matrix(truth: Sequence[float], said: Sequence[float], head: str) -> HeadFigures | None:
    kept = [i for i, label in enumerate(truth) if label >= 0]
    if not kept:
        return None
    classes = list(range(len(HEAD_LABELS[head])))
    matrix = confusion_matrix([truth[i] for i in kept], [said[i] for i in kept], labels=classes)
    return HeadFigures({}, tuple(tuple(int(n) for n in row) for row in matrix), len(kept), 0, ())


def _milliseconds(axes: Axes, values: Sequence[float]) -> None:
    if max(values) > _WIDE * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel("ms", fontsize=9)
    axes.grid(alpha=0.3)

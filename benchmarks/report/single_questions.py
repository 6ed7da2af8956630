"""The rows of docs/figures.md that answer one question each, from the newest record of each measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks.peers import EAGER, PLAIN_EXPORTS
from benchmarks.report.evidence_table import judged_slices
from benchmarks.report.run_view import RunView
from benchmarks.results import names
from benchmarks.standalone import (
    evidence_maps,
    host_packing,
    leak,
    least_start,
    outlier_smoothing,
    preprocessing,
    reading,
    startup,
    trimmed,
    tune_check,
)
from evaluation.records import Record


def rows(views: Sequence[RunView], records: Sequence[Record]) -> Iterator[tuple[str, str, str]]:
    """What was asked, the figure, and the command that repeats it.

    Args:
        views: runs of `bench`; records: of single measurements, in the order in which they were taken.
    """
    yield from _against_peers(views)
    newest = {record.what: record for record in records}
    for what, figure_of in FIGURES.items():
        if what in newest:
            yield *figure_of(newest[what]), str(newest[what].options["command"])


def _against_peers(views: Sequence[RunView]) -> Iterator[tuple[str, str, str]]:
    """Every configuration against PyTorch, and fp32 against the same library's plain export; the newest run of each."""
    newest = {
        (peer, view.name, configuration): view
        for peer in (*PLAIN_EXPORTS, EAGER.name)
        for view in views
        for configuration in view.passed
        if PLAIN_EXPORTS.get(peer, configuration) == configuration
        and view.times_as_fast(names.LATENCY, configuration, peer)
    }
    for (peer, _, configuration), view in newest.items():
        cores = "one core" if view.threads == 1 else f"{view.threads or 'all'} cores"
        yield (
            f"{configuration} against {peer}, {view.title}, {cores}, batch 1",
            f"{view.times_as_fast(names.LATENCY, configuration, peer)}; {view.median_ms(configuration):.3g} ms; "
            f"the gate: {view.verdict(configuration)}",
            view.command,
        )


def _outliers(record: Record) -> tuple[str, str]:
    s = record.summary
    return (
        f"{record.what}, {record.options['encoder']}, untrained",
        f"{s['ratio']:.1f} times less rms logit error ({s['smoothed_rms']:.3f} against {s['plain_rms']:.3f}; the "
        f"logits' own deviation is {s['logit_deviation']:.3f})",
    )


def _reading(record: Record) -> tuple[str, str]:
    return "reading and decoding a 512x512 slice against pydicom, one core", _ways(record, reading.PYDICOM)


def _preprocessing(record: Record) -> tuple[str, str]:
    return f"{record.what}, CPU time", _ways(record, preprocessing.OPENCV)


def _ways(record: Record, baseline: str) -> str:
    figures = (
        (way, record.summary[f"{way}: ratio_median"], record.summary[f"{way}: ms"])
        for way in record.samples
        if not way.endswith(baseline)
    )
    return "; ".join(f"{way} {ratio:.1f} times as fast ({ms:.2f} ms)" for way, ratio, ms in figures)


def _host_packing(record: Record) -> tuple[str, str]:
    s, most = record.summary, max(host_packing.BATCHES)
    batches = ", ".join(
        f"{s[f'{host_packing.PREPARED}, batch {n}: us_median']:.0f} us at batch {n}" for n in host_packing.BATCHES
    )
    return (
        "a slice of a batch in the thread that owns the GPU, CPU time over a driver that does nothing, median",
        f"{batches} ({s[f'{host_packing.AS_THEY_ARE}, batch {most}: us_median']:.0f} us if it copies the pixels); "
        f"{s[f'{host_packing.PREPARED}, batch {most}: driver calls']:.0f} calls of the driver a batch of "
        f"{most} come on top",
    )


def _evidence(record: Record) -> tuple[str, str]:
    s = record.summary
    return (
        f"{record.what}: the hottest cell touches it, {judged_slices(record)} ([report](report.md))",
        f"{s['fp32: cell']:.1%} ({s['fp32: cell_low']:.1%} to {s['fp32: cell_high']:.1%}); a wrong model "
        f"{s['shuffled: cell']:.1%}, chance {s['fp32: chance']:.1%}",
    )


def _leak(record: Record) -> tuple[str, str]:
    s = record.summary
    return (
        f"one process over {s['slices']:.0f} slices, {record.options['backend']}: memory and open files",
        f"grown by {s['MiB grown']:.1f} MiB and {s['files grown']:.0f} files, to {s['MiB at the end']:.0f} MiB",
    )


def _startup(record: Record) -> tuple[str, str]:
    s = record.summary
    return (
        "`import dtvit_edge`; `dtvit-edge --help` as a whole process, median",
        f"{s['import_s_median']:.3f} s; {s['help_s_median']:.3f} s (a bare interpreter {s['bare_s_median']:.3f} s)",
    )


def _least_start(record: Record) -> tuple[str, str]:
    s, precision = record.summary, record.options["precision"]
    backends = [name.removesuffix(": score: s (median)") for name in s if name.endswith(": score: s (median)")]
    figures = "; ".join(
        f"{name} {s[f'{name}: score: s (median)']:.2f} s ({s[f'{name}: least: s (median)']:.2f} s)" for name in backends
    )
    compiled = ", OpenVINO's model compiled before" if record.options["compiled"] else ""
    return (
        "cold start: `dtvit-edge score` of one slice as a whole process, and in brackets a script that loads the same "
        f"model unchecked, {record.options['encoder']} {precision}, one thread{compiled}",
        figures,
    )


def _trimmed(record: Record) -> tuple[str, str]:
    what = f"{record.what}, {record.options['encoder']}, one thread, {record.summary['slices']:.0f} slices"
    return what, _ways(record, trimmed.WHOLE)


def _tune(record: Record) -> tuple[str, str]:
    s, fastest = record.summary, record.options["fastest"]
    chosen = dict.fromkeys(record.options["chosen"])
    behind = "; ".join(f"{words}: {100 * (s[f'{words}: ratio_median'] - 1):+.1f} %" for words in chosen)
    return (
        f"what `tune` chose in {len(record.options['chosen'])} runs of {record.options['seconds']:g} s, "
        f"{record.options['encoder']}, against the fastest of all {len(record.samples)} candidates",
        f"{behind} of the time of {fastest}",
    )


# In the order of the page.
FIGURES: dict[str, Callable[[Record], tuple[str, str]]] = {
    outlier_smoothing.WHAT: _outliers,
    reading.WHAT: _reading,
    preprocessing.WHAT: _preprocessing,
    host_packing.WHAT: _host_packing,
    evidence_maps.WHAT: _evidence,
    leak.WHAT: _leak,
    startup.WHAT: _startup,
    least_start.WHAT: _least_start,
    tune_check.WHAT: _tune,
    trimmed.WHAT: _trimmed,
}

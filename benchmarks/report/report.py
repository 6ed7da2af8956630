"""The report of a run, from its records alone: Markdown with pictures beside it, and one HTML file with all in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import encoders, plots
from benchmarks.report.pareto import error_against_latency
from benchmarks.report.run_view import RunView, group_by_run, run_views
from benchmarks.report.tables import TABLES
from benchmarks.report.verdicts import not_clinical, summary
from dtvit_edge import escaping
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.spec import NOTICE
from evaluation.html_page import page
from evaluation.plots import Plot
from evaluation.records import Record
from evaluation.tables import Table, notes_markdown

HTML, MARKDOWN, SUMMARY = "report.html", "report.md", "summary.txt"
TITLE = "How fast and how faithful on this machine"
_PICTURES: dict[str, Callable[[RunView], Plot | None]] = {
    "latency": plots.latency,
    "end_to_end": plots.stages,
    "throughput": plots.throughput,
    "accuracy": plots.confusion,
    "needs": plots.sustained,
}


def write_report(out: Path, records: Sequence[Record]) -> None:
    """Write `report.html`, `report.md`, `summary.txt` and the pictures with their numbers into a folder.

    Args:
        records: of one run of `bench`; the accuracy's comes first for every bundle.
    """
    make_folder(out)
    shown = run_views(records)
    summaries = [(f"In one minute: {view.title}", summary(view)) for view in shown]
    parts: list[Table | Plot | str] = []
    for place, run in enumerate(group_by_run(shown)):
        timed = [view for view in run if view.passed]
        if len(timed) > 1:
            summaries.insert(0, (encoders.HEADING, encoders.sentences(timed)))
            parts += ["## Bundles side by side", encoders.table(timed)]
        if timed and (overview := plots.speed_against_accuracy(timed, place)):
            parts.append(overview)
    for view in shown:
        parts += [f"## {view.title}", *_of_bundle(view)]
    notice = f"{NOTICE[0].upper()}{NOTICE[1:]}. {not_clinical(shown)}"
    write_atomically(out / HTML, page(TITLE, notice, summaries, parts))
    write_atomically(out / MARKDOWN, _markdown(out, notice, summaries, parts))
    lines = [
        escaping.one_line(heading) + "\n" + "".join(f"  - {escaping.one_line(line)}\n" for line in sentences)
        for heading, sentences in summaries
    ]
    write_atomically(out / SUMMARY, "".join(lines) + notice + "\n")


def _of_bundle(view: RunView) -> list[Table | Plot | str]:
    parts: list[Table | Plot | str] = []
    for make in TABLES:
        table = make(view)
        parts += [] if table is None else [table]
        picture = _PICTURES.get(make.__name__)
        drawn = picture(view) if picture else None
        parts += [] if drawn is None else [drawn]
        if make.__name__ == "accuracy" and (curve := plots.reliability(view)):
            parts.append(curve)
        if make.__name__ == "latency" and (plane := error_against_latency(view)):
            parts.append(plane)
    return parts


def _markdown(
    out: Path,
    notice: str,
    summaries: Sequence[tuple[str, Sequence[str]]],
    parts: Sequence[Table | Plot | str],
) -> str:
    """The same report; pictures are written beside it."""
    text = [f"# {TITLE}\n", f"**{notice}**\n"]
    for heading, sentences in summaries:
        text.append(f"## {escaping.markdown(escaping.one_line(heading))}\n\n" + notes_markdown(sentences))
    for part in parts:
        if isinstance(part, Plot):
            part.write(out)
        text.append(escaping.markdown(part) + "\n" if isinstance(part, str) else part.markdown())
    return "\n".join(text)

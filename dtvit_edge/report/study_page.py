"""The page of one study, from a plan of its files or from the tables alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.reasons import Status
from dtvit_edge.report.files import INDEX
from dtvit_edge.report.run_results import RunResults, SliceRow, StudyRow
from dtvit_edge.report.study_view import HighImage, StackView, StripCell, bounded
from dtvit_edge.report.templates import page
from dtvit_edge.report.words import (
    TRAINED,
    left_out,
    left_out_line,
    left_out_sentence,
    moment,
    study_sentences,
    verdict,
)

NO_PICTURES = (
    "Made of the tables alone. Pictures, positions and maps of where hiding changes the answer come from "
    "`score --report`, or from `dtvit-edge report OUT STUDIES` for a run that has ended."
)


def study_html(
    results: RunResults | None,
    study: StudyRow,
    slices: Sequence[SliceRow],
    views: Sequence[StackView],
    images: Sequence[HighImage] = (),
    *,
    thresholds: tuple[float | None, float | None],
    more_stacks: int = 0,
    note: str = "",
    here: str = "",
) -> str:
    """The page.

    Args:
        results: the run's; None while it is under way.
        slices: the study's rows; views: its stacks; images: the highest ones, with pictures.
        thresholds: of studies and of slices.
        note: what is to be said of the page itself; here: that it is one of a page of results, which has a menu.
    """
    answering = [cell for view in views if view.answers for cell in view.cells if cell.probability is not None]
    top = None if results is None else results.spec.top_places
    places = len({cell.number for cell in answering})
    return page(
        "study.html",
        study=study,
        verdict=verdict(study, thresholds[0], top if top is None else (min(top, places) or top)),
        threshold=thresholds[0],
        threshold_source="" if results is None else results.threshold[1],
        sentences=study_sentences(study),
        trained=TRAINED.get(study.model_status, study.model_status),
        left_out=left_out(slices),
        left_out_line=left_out_line(slices),
        stacks=views,
        more_stacks=more_stacks,
        images=images,
        slice_threshold=thresholds[1],
        facts=[] if results is None else list(_facts(results)),
        side=next((view.side for view in views if view.answers), ""),
        index="/" if here else INDEX,
        note=note,
        here=here,
    )


def table_views(study: StudyRow, slices: Sequence[SliceRow]) -> tuple[list[StackView], int]:
    """The images of each series as the table has them, in the order of their places, and how many series are not drawn.

    Slices that were averaged have one place, and are one cell.
    """
    series: dict[str, dict[int, list[SliceRow]]] = defaultdict(lambda: defaultdict(list))
    for row in slices:
        if row.place is not None:
            series[row.series_uid][row.place].append(row)
    views = []
    for uid, places in series.items():
        cells = tuple(_cell(place, rows) for place, rows in sorted(places.items()))
        answers = any(row.sop_uid == study.top_sop_uid for rows in places.values() for row in rows)
        count = sum(map(len, places.values()))
        views.append(StackView(cells, None, (), (uid,), f"{count} slices", "", answers))
    views.sort(key=lambda view: (not view.answers, -max((c.probability or 0.0 for c in view.cells), default=0.0)))
    shown = bounded(views)
    return shown, len(views) - len(shown)


def _cell(place: int, rows: Sequence[SliceRow]) -> StripCell:
    probability = next((row.probability for row in rows if row.probability is not None), None)
    code = "" if probability is not None else rows[0].reason
    lost = sum(row.status is not Status.SCORED for row in rows) if probability is not None else 0
    return StripCell(
        SliceImage((), place), place, None, probability, StripCell.level_of(probability), code,
        left_out_sentence(code), None, lost,
    )  # fmt: skip


def _facts(results: RunResults) -> Iterator[tuple[str, str]]:
    """What produced the result, by name."""
    run: dict[str, Any] = results.run
    backend = run["backend"]
    yield "model", f"{run['bundle']['name']}, {run['bundle']['encoder']}, {run['bundle']['training']}"
    yield "bundle", str(run["bundle"]["digest"])
    yield "preprocessing", str(run["spec_digest"])
    yield "computed by", ", ".join(
        str(part) for part in (f"{backend.get('backend')} {backend.get('version')}", backend.get("device"),
                               f"precision {run['options'].get('precision')}", f"batch {run['options'].get('batch')}")
    )  # fmt: skip
    yield "version", f"dtvit-edge {run['packages'].get('dtvit-edge', '?')}"
    yield "machine", ", ".join(f"{name} {value}" for name, value in run["machine"].items() if value)
    yield "run", f"{moment(run.get('started'))} to {moment(run.get('finished'))}"
    yield "seconds of the whole run", ", ".join(f"{name} {value}" for name, value in run["seconds"].items())

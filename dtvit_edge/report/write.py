"""The report of a finished run: an index of its studies, and a page for each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.plan import Plan
from dtvit_edge.errors import ConfigError
from dtvit_edge.escaping import csv_cell
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.progress import Progress, silent
from dtvit_edge.report.files import FOLDER, INDEX, page_name, remove_others, results_digest
from dtvit_edge.report.high_images import HighImages
from dtvit_edge.report.index_page import index_pages
from dtvit_edge.report.run_results import RunResults, SliceRow, StudyRow, read_run
from dtvit_edge.report.study_page import study_html
from dtvit_edge.report.study_view import stack_views
from dtvit_edge.scoring.api import open_backend, open_executor
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.run import make_plan


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        maps: slices with evidence; passes: how often the model was asked for it.
    """

    index: Path
    studies: int
    flagged: int
    maps: int
    passes: int


def write_report(
    out: Path,
    folders: Sequence[Path],
    bundle: Bundle | None = None,
    *,
    plan: Plan | None = None,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Report:
    """Write the report of the run in `out` into `out/report`.

    Args:
        folders: what was scored; pictures, positions and gaps come from there.
        bundle: the one that answered; without it there are no evidence maps.
        plan: of that run, where it is known; else the folders are read again.
        executor: the one that answered, still open, and staying so; else the bundle's is opened where a map needs it.

    Raises:
        ConfigError: no finished run, another bundle's run, or a folder that is not there or cannot be written.
        MissingDependency: jinja2 is not installed.
        DeviceFault: the device failed; the run's results are untouched.
        DiskFault: a page cannot be written.
    """
    results = read_run(out)
    if bundle is not None and bundle.digest != results.run["bundle"]["digest"]:
        raise ConfigError(f"{out} holds a run of another bundle: {results.run['bundle']['digest']}")
    options, spec = results.options, results.spec
    plan = plan or make_plan(folders, out, options, progress)[1]
    plans = {csv_cell(uid): uid for uid in plan.study_uids}
    # Two UIDs can have one spelling in a table; then nothing says which images belong to which row.
    rows = {study.uid: study for study in results.studies if study.uid not in results.repeated}
    written: dict[str, str] = {}
    of_none: list[SliceRow] = []
    make_folder(out / FOLDER)
    with ExitStack() as stack:
        ask = None if bundle is None else partial(_opened, executor, bundle, options, stack)
        reader = stack.enter_context(ParallelReader(fast=options.fast))
        heads = bundle.manifest.untrained_heads if bundle else ()
        draw = HighImages(spec, ask, reader, results.slice_threshold, untrained_heads=heads)
        step = stack.enter_context(progress("report", len(rows)))
        for uid, slices in results.slices_by_study():
            if not uid:
                of_none = slices
            elif uid in rows:
                name = page_name(uid)
                part = plan.study(plans[uid]) if uid in plans else Plan({})
                write_atomically(out / FOLDER / name, study_page(results, rows[uid], part, slices, draw))
                written[uid] = name
                step(1)
    pages = index_pages(results, results_digest(out), written, of_none)
    for name, text in pages.items():
        write_atomically(out / FOLDER / name, text)
    remove_others(out / FOLDER, {*written.values(), *pages})
    flagged = sum(bool(study.flagged) for study in results.studies)
    return Report(out / FOLDER / INDEX, len(written), flagged, draw.maps, draw.passes)


def _opened(executor: Executor | None, bundle: Bundle, options: Options, stack: ExitStack) -> Executor:
    if executor is not None:
        return executor
    backend = stack.enter_context(open_backend(bundle, options.backend, options))
    return stack.enter_context(open_executor(bundle, backend, options))


def study_page(results: RunResults, study: StudyRow, plan: Plan, slices: Sequence[SliceRow], draw: HighImages) -> str:
    """The page of one study.

    Args:
        plan: the study's part of the plan; slices: its rows.
    """
    threshold = results.threshold[0]
    views, more_stacks = stack_views(study, plan, slices, results.spec, threshold)
    images = draw([cell for view in views if view.answers for cell in view.highest])
    return study_html(
        results,
        study,
        slices,
        views,
        images,
        thresholds=(threshold, results.slice_threshold),
        more_stacks=more_stacks,
    )

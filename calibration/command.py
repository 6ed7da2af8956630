"""The command `dtvit-edge calibrate`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.options import calibration_options, config_of
from dtvit_edge.cli.option_set import BundleOpener, bundle_argument, bundle_opener, json_option
from evaluation.repeating import RecordFile, command_line

if TYPE_CHECKING:
    from calibration.calibrate import CalibrationResult
    from evaluation.gate import Verdict
    from evaluation.limits import Limits


@click.command()
@bundle_argument
@calibration_options
@click.option(
    "--record",
    cls=RecordFile,
    help="Append what the gate found, the time and the peak memory to this file of records (.jsonl).",
)
@bundle_opener
@json_option
def calibrate(
    open_bundle: BundleOpener,
    slices: tuple[Path, ...],
    test_slices: tuple[Path, ...],
    other: tuple[Path, ...],
    record: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Add int8 and fp8 to BUNDLE, and compare every lower precision with fp32.

    The gate judges at home, under eight shifts of the scanner, and on the slices of --other. A precision that does not
    pass is not installed. The exit status is 0 where none was refused, and 1 where one failed or is inconclusive; fp8,
    which few devices run, changes it not.
    Thresholds stay; an engine of a file that changed is to be built again.
    """
    from calibration.calibrate import calibrate as run
    from calibration.record import record_of
    from calibration.slices import find_candidates, load
    from dtvit_edge.cli import render
    from dtvit_edge.errors import VerdictError
    from evaluation.records import append
    from export.output import check_contents

    began = time.perf_counter()
    opened = open_bundle()
    opened.require_whole()
    check_contents(opened.path)
    config = config_of(**chosen)
    candidates_by_set = find_candidates(slices, test_slices, config, other=other, progress=render.progress)
    sets = load(opened, candidates_by_set, config, progress=render.progress)
    result = run(opened, sets, config, progress=render.progress)
    _show(result, config.limits, as_json=as_json)
    if record is not None:
        line = command_line(click.get_current_context(), "dtvit-edge", "calibrate")
        append(record, record_of(result, config.limits, line, began))
    if result.refused:
        raise VerdictError(_refusal(result, config.limits))


def _refusal(result: CalibrationResult, limits: Limits) -> str:
    """Which precisions failed and which are inconclusive, and what became of each."""
    from evaluation.gate import FAILED

    installed = result.bundle.manifest.models
    failed = [v.precision for v in result.verdicts if v.verdict == FAILED and v.precision in result.refused]
    inconclusive = [name for name in result.refused if name not in failed]
    left_out = [name for name in inconclusive if name not in installed]
    kept = [name for name in inconclusive if name in installed]
    sentences = []
    if failed:
        sentences.append(f"did not pass the gate, not installed: {', '.join(failed)}")
    if left_out:
        sentences.append(f"inconclusive, not installed: {', '.join(left_out)}")
    if kept:
        sentences.append(f"inconclusive, kept: {', '.join(kept)}")
    if inconclusive and result.slices["test"] < limits.slices:
        sentences.append(
            f"the test set has {result.slices['test']} slices, --least-slices asks for {limits.slices}: give more"
        )
    elif inconclusive:
        sentences.append(what_would_tell([v for v in result.verdicts if v.precision in inconclusive], limits))
    return "; ".join(sentences)


def what_would_tell(verdicts: Sequence[Verdict], limits: Limits) -> str:
    """What to give so that an inconclusive verdict becomes one; empty where none is inconclusive."""
    from evaluation.gate import INCONCLUSIVE, OTHER

    sentences = []
    unsure = [one for v in verdicts for one in v.elsewhere if one.verdict == INCONCLUSIVE]
    few = {one.name: one.ich.slices for one in unsure if one.ich.slices < limits.least_elsewhere}
    if OTHER in few:
        sentences.append(
            f"--other has {few.pop(OTHER)} slices, {limits.least_elsewhere} are the fewest that can tell: give more of "
            "that site, or leave it out, and nothing is said of it"
        )
    if few:
        sentences.append(
            f"{', '.join(few)}: {min(few.values())} slices, {limits.least_elsewhere} are the fewest that can tell: "
            "give more test slices, and --shift-slices"
        )
    studies = [one.studies.slices for one in unsure if one.studies and one.studies.flips]
    if studies:
        sentences.append(
            f"one of {min(studies)} studies is decided otherwise, which may be chance: with test slices of "
            f"{limits.least_elsewhere} patients or more it is none"
        )
    if not sentences and unsure:
        sentences.append("some sets hold too few slices to tell: give more test slices, and --shift-slices")
    elif not sentences and any(v.verdict == INCONCLUSIVE for v in verdicts):
        sentences.append("the test set holds too few slices, studies or located bleeds to tell: give more test slices")
    return "; ".join(sentences)


def _show(result: CalibrationResult, limits: Limits, *, as_json: bool) -> None:
    from calibration.record import report_of
    from dtvit_edge.cli import render

    if as_json:
        render.echo_lines(json.dumps(report_of(result, limits)))
        return
    tried = ", ".join(f"{m} {flips} flips, rms {rms:.3g}" for m, (flips, rms) in result.methods.items())
    render.echo(f"ranges by {result.method} ({tried})")
    render.echo("costliest: " + ", ".join(f"{cost.name} {cost.rms:.2g}" for cost in result.costs[:5]))
    render.echo("kept in higher precision: " + (", ".join(result.kept_higher) or "nothing"))
    kept = len(result.kept_higher)
    curve = [(f"{p.kept}{', taken' if p.kept == kept else ''}", f"{p.rms:.3g}", f"{p.time:.2f}") for p in result.curve]
    render.rows(("ops kept in higher precision", "rms logit error", "time as a share of fp32's"), curve)

    judged = (*result.verdicts, *result.configurations)
    columns = ("precision", "gate", "slices", "ICH agrees", "studies agree", "location agrees", "largest dp", "mean dp",
               "dAUC", "sensitivity", "specificity", "size")  # fmt: skip
    render.rows(columns, [_row(v, result.sizes.get(v.precision)) for v in judged])
    render.rows(("scanner", "slices", *(v.precision for v in judged)), list(_rows_by_set(judged)))
    render.echo("in each cell: slices decided as fp32 does, and what 99.5 % of the probabilities differ by at most")
    for verdict in judged:
        for reason in verdict.reasons:
            render.echo(f"{verdict.precision}: {reason}")
    if advice := what_would_tell(judged, limits):
        render.echo(f"what would tell: {advice}")
    for verdict in result.configurations:
        render.echo(f"{verdict.precision}: a configuration, run on {verdict.ran_on}; it has no file of its own")
    render.echo(f"{result.bundle.path}: {', '.join(sorted(result.bundle.manifest.models))}")


def _rows_by_set(judged: Sequence[Verdict]) -> Iterator[tuple[str, ...]]:
    """One row for home, one for each shift of the scanner and one for another site."""
    from evaluation.gate import HOME, PASSED

    first = judged[0]
    yield (HOME, str(first.ich.slices), *(f"{v.ich.agreement:.2%}, {v.ich.high_difference:.3f}" for v in judged))
    for place, one in enumerate(first.elsewhere):
        cells = []
        for there in (v.elsewhere[place] for v in judged):
            said = "" if there.verdict == PASSED else f": {there.verdict}"
            cells.append(f"{there.ich.agreement:.2%}, {there.ich.high_difference:.3f}{said}")
        yield (one.name, str(one.ich.slices), *cells)


def _row(v: Verdict, size: float | None) -> tuple[str, ...]:
    from evaluation.gate import NOT_ASSESSED

    return (
        v.precision,
        v.verdict,
        str(v.ich.slices),
        f"{v.ich.agreement:.4f} ({v.ich.flips} flips)",
        f"{v.studies.agreement:.4f} ({v.studies.flips} of {v.studies.slices})" if v.studies else NOT_ASSESSED,
        f"{v.location.agreement:.4f} ({v.location.flips} of {v.location.slices})" if v.location else NOT_ASSESSED,
        f"{v.ich.largest_difference:.4f}",
        f"{v.ich.mean_difference:.5f}",
        NOT_ASSESSED if v.auc is None or v.auc_reference is None else f"{v.auc - v.auc_reference:+.5f}",
        "{:.3f} ({:.3f} to {:.3f})".format(*v.sensitivity) if v.sensitivity else NOT_ASSESSED,
        "{:.3f} ({:.3f} to {:.3f})".format(*v.specificity) if v.specificity else NOT_ASSESSED,
        "" if size is None else f"{size:.3f}",
    )

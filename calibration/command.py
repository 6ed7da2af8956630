"""The command `dtvit-edge calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.options import calibration_options, config_of

if TYPE_CHECKING:
    from calibration.calibrate import CalibrationResult
    from evaluation.gate import Verdict


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@calibration_options
@click.option("--expect-digest", metavar="SHA256", help="Refuse every bundle but the one with this digest.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def calibrate(
    bundle: Path,
    slices: tuple[Path, ...],
    test_slices: tuple[Path, ...],
    expect_digest: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Add int8 and fp8 to BUNDLE, and compare every lower precision with fp32.

    A precision that does not pass the gate is not installed. The exit status is 0 where all passed, and 1 where one
    failed or is inconclusive. Thresholds stay; an engine of a file that changed is to be built again.
    """
    from calibration.calibrate import calibrate as run
    from calibration.slices import find_candidates, load
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.cli import render
    from dtvit_edge.errors import VerdictError

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    opened.require_whole()
    config = config_of(**chosen)
    candidates_by_set = find_candidates(slices, test_slices, config, progress=render.progress)
    sets = load(opened, candidates_by_set, config, progress=render.progress)
    result = run(opened, sets, config, progress=render.progress)
    _show(result, as_json=as_json)
    if not result.passed:
        raise VerdictError(_not_passed(result, config.limits.slices))


def _not_passed(result: CalibrationResult, least_slices: int) -> str:
    """Which precisions failed and which are inconclusive, and what became of each."""
    from evaluation.gate import FAILED, INCONCLUSIVE

    installed = result.bundle.manifest.models
    failed = [v.precision for v in result.verdicts if v.verdict == FAILED]
    inconclusive = [v.precision for v in result.verdicts if v.verdict == INCONCLUSIVE]
    left_out = [name for name in inconclusive if name not in installed]
    kept = [name for name in inconclusive if name in installed]
    sentences = []
    if failed:
        sentences.append(f"did not pass the gate, not installed: {', '.join(failed)}")
    if left_out:
        sentences.append(f"inconclusive, not installed: {', '.join(left_out)}")
    if kept:
        sentences.append(f"inconclusive, kept: {', '.join(kept)}")
    if inconclusive:
        sentences.append(
            f"the test set has {result.slices['test']} slices, --least-slices asks for {least_slices}: give more slices"
        )
    return "; ".join(sentences)


def _show(result: CalibrationResult, *, as_json: bool) -> None:
    from dtvit_edge.cli import render

    if as_json:
        render.echo_lines(json.dumps({
            "bundle": str(result.bundle.path),
            "digest": result.bundle.digest,
            "encoder": result.bundle.manifest.encoder,
            "training": result.bundle.manifest.training,
            "slices": result.slices,
            "method": result.method,
            "methods": result.methods,
            "kept_higher": result.kept_higher,
            "sizes": result.sizes,
            "verdicts": [verdict.to_dict() for verdict in result.verdicts],
        }))  # fmt: skip
        return
    tried = ", ".join(f"{m} {flips} flips, rms {rms:.3g}" for m, (flips, rms) in result.methods.items())
    render.echo(f"ranges by {result.method} ({tried})")
    render.echo("costliest: " + ", ".join(f"{cost.name} {cost.rms:.2g}" for cost in result.costs[:5]))
    render.echo("kept in higher precision: " + (", ".join(result.kept_higher) or "nothing"))

    columns = ("precision", "gate", "slices", "ICH agrees", "location agrees", "largest dp", "mean dp", "dAUC",
               "sensitivity", "specificity", "size")  # fmt: skip
    render.rows(columns, [_row(v, result.sizes[v.precision]) for v in result.verdicts])
    for verdict in result.verdicts:
        for reason in verdict.reasons:
            render.echo(f"{verdict.precision}: {reason}")
    render.echo(f"{result.bundle.path}: {', '.join(sorted(result.bundle.manifest.models))}")


def _row(v: Verdict, size: float) -> tuple[str, ...]:
    from evaluation.gate import NOT_ASSESSED

    return (
        v.precision,
        v.verdict,
        str(v.ich.slices),
        f"{v.ich.agreement:.4f} ({v.ich.flips} flips)",
        f"{v.location.agreement:.4f} ({v.location.flips} of {v.location.slices})" if v.location else NOT_ASSESSED,
        f"{v.ich.largest_difference:.4f}",
        f"{v.ich.mean_difference:.5f}",
        NOT_ASSESSED if v.auc is None or v.auc_reference is None else f"{v.auc - v.auc_reference:+.5f}",
        "{:.3f} ({:.3f} to {:.3f})".format(*v.sensitivity) if v.sensitivity else NOT_ASSESSED,
        "{:.3f} ({:.3f} to {:.3f})".format(*v.specificity) if v.specificity else NOT_ASSESSED,
        f"{size:.3f}",
    )

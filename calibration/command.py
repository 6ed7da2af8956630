"""The command `dtvit-edge calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluation.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from calibration.calibrate import CalibrationResult
    from evaluation.gate import Verdict


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--slices",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Take slices from this study folder or labelled CSV; may be repeated. They are split by patient into three "
    "sets: calibration gives the ranges, validation chooses how they are computed and which ops keep higher "
    "precision, and test decides whether a precision passes.",
)
@click.option(
    "--test-slices",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Take the whole test set from this study folder or labelled CSV; may be repeated. Its patients are left out "
    "of the other two sets. Without it, two fifths of the patients of --slices are the test set.",
)
@click.option(
    "--count",
    default=512,
    show_default=True,
    type=click.IntRange(1),
    help="Use at most this many slices in the calibration set.",
)
@click.option(
    "--recipe",
    default="linear",
    show_default=True,
    type=click.Choice(["linear", "attention"]),
    help="Choose which ops are quantised. 'linear' takes the encoder's linear layers and convolutions; 'attention' "
    "adds attention's two matrix products, as TensorRT's fused INT8 attention needs, and makes CPUs slower.",
)
@click.option(
    "--alpha",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Set how much of the outliers smoothing moves from the activations into the weights.",
)
@click.option(
    "--smooth/--no-smooth",
    default=True,
    show_default=True,
    help="Fold the outliers of activations into the weights before quantising.",
)
@click.option(
    "--agreement",
    default=DEFAULT_LIMITS.agreement,
    show_default=True,
    help="Ask of the gate that each head decides at least this share of the test slices as fp32 does.",
)
@click.option(
    "--delta-auc",
    default=DEFAULT_LIMITS.auc,
    show_default=True,
    help="Allow the AUC of the haemorrhage head to differ from that of fp32 by at most this much.",
)
@click.option(
    "--least-slices",
    default=DEFAULT_LIMITS.slices,
    show_default=True,
    help="Call the gate's verdict inconclusive where the test set has fewer slices than this.",
)
@click.option("--seed", default=0, show_default=True, help="Set the seed of the sampling and of the bootstrap.")
@click.option("--expect-digest", metavar="SHA256", help="Refuse every bundle but the one with this digest.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def calibrate(
    bundle: Path,
    slices: tuple[Path, ...],
    test_slices: tuple[Path, ...],
    count: int,
    recipe: str,
    alpha: float,
    smooth: bool,
    agreement: float,
    delta_auc: float,
    least_slices: int,
    seed: int,
    expect_digest: str | None,
    as_json: bool,
) -> None:
    """Add int8 to BUNDLE, and compare every lower precision with fp32.

    A precision that does not pass the gate is not installed. The exit status is 0 where all passed, and 1 where one
    failed or is inconclusive. The engines of the bundle are not carried over, because they belong to the old files.
    """
    from calibration.calibrate import Config, ich_predictor
    from calibration.calibrate import calibrate as run
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.cli import render
    from dtvit_edge.errors import VerdictError
    from evaluation.sampling import WHAT_TO_GIVE, candidates, load_sets, split_into_sets

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    opened.require_whole()
    if not slices:
        raise click.UsageError(f"nothing to calibrate on; {WHAT_TO_GIVE}")
    config = Config(
        recipe=recipe,
        alpha=alpha if smooth else None,
        calibration_slices=count,
        limits=Limits(agreement, delta_auc, least_slices),
        seed=seed,
    )
    test = candidates(test_slices, progress=render.progress) if test_slices else ()
    candidates_by_set = split_into_sets(candidates(slices, progress=render.progress), test, seed=seed)
    sets = load_sets(
        candidates_by_set,
        config.set_sizes,
        opened.manifest.spec,
        seed=seed,
        predict_ich=ich_predictor(opened, render.progress),
        progress=render.progress,
    )
    result = run(opened, sets, config, progress=render.progress)
    _show(result, as_json=as_json)
    if not result.passed:
        raise VerdictError(_not_passed(result, least_slices))


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

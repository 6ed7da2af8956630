"""The command `dtvit-edge calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from calibration.calibrate import Outcome
    from evaluation.gate import Verdict


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--slices", multiple=True, type=click.Path(path_type=Path), help="Study folders, or a labelled CSV.")
@click.option(
    "--judge",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The verdict on these alone; their patients give no ranges. Else it is dealt from --slices.",
)
@click.option("--count", default=512, show_default=True, type=click.IntRange(1), help="Slices that give the ranges.")
@click.option(
    "--recipe",
    default="linear",
    show_default=True,
    type=click.Choice(["linear", "attention"]),
    help="attention: its own ops too, where TensorRT's fused INT8 attention wants them; CPUs get slower.",
)
@click.option("--alpha", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="Of smoothing.")
@click.option("--smooth/--no-smooth", default=True, show_default=True, help="Fold outliers into the weights first.")
@click.option("--agreement", default=0.995, show_default=True, help="The gate: share of equal decisions, each head.")
@click.option("--delta-auc", default=0.002, show_default=True, help="The gate: largest difference of the AUC.")
@click.option("--least-slices", default=500, show_default=True, help="The gate: fewer are inconclusive.")
@click.option("--seed", default=0, show_default=True)
@click.option("--expect-digest", metavar="SHA256", help="Refuse any other bundle than this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(
    bundle: Path,
    slices: tuple[Path, ...],
    judge: tuple[Path, ...],
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
    """Add int8 to BUNDLE and judge every lower precision against fp32.

    What does not pass the gate is not installed. Exit status: 0 all passed, 1 one failed or is inconclusive. A bundle's
    engines are left out of the new one: they belong to other files.
    """
    from calibration.calibrate import Config, flags
    from calibration.calibrate import calibrate as run
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.cli import render
    from dtvit_edge.errors import VerdictError
    from evaluation.gate import Limits
    from evaluation.sampling import WHAT_TO_GIVE, candidates, deal, load_sets

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    opened.require_whole()
    if not slices:
        raise click.UsageError(f"nothing to calibrate on; {WHAT_TO_GIVE}")
    config = Config(
        recipe=recipe,
        alpha=alpha if smooth else None,
        ranges=count,
        limits=Limits(agreement, delta_auc, least_slices),
        seed=seed,
    )
    judges = candidates(judge, progress=render.progress) if judge else ()
    dealt = deal(candidates(slices, progress=render.progress), judges, seed=seed)
    sizes = {"ranges": config.ranges, "choice": config.choice, "verdict": config.verdict}
    sets = load_sets(
        dealt, sizes, opened.manifest.spec, seed=seed, guess=flags(opened, render.progress), progress=render.progress
    )
    outcome = run(opened, sets, config, progress=render.progress)
    _show(outcome, as_json=as_json)
    if not outcome.passed:
        raise VerdictError("a lower precision did not pass the gate, and is not installed")


def _show(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({
            "bundle": str(outcome.bundle.path),
            "digest": outcome.bundle.digest,
            "encoder": outcome.bundle.manifest.encoder,
            "training": outcome.bundle.manifest.training,
            "slices": outcome.slices,
            "method": outcome.method,
            "methods": outcome.methods,
            "given_back": outcome.given_back,
            "sizes": outcome.sizes,
            "verdicts": [verdict.to_dict() for verdict in outcome.verdicts],
        }))  # fmt: skip
        return
    tried = ", ".join(f"{m} {flips} flips, rms {rms:.3g}" for m, (flips, rms) in outcome.methods.items())
    click.echo(f"ranges by {outcome.method} ({tried})")
    click.echo("costliest: " + ", ".join(f"{cost.name} {cost.rms:.2g}" for cost in outcome.costs[:5]))
    click.echo("given back to higher precision: " + (", ".join(outcome.given_back) or "nothing"))
    from dtvit_edge.cli import render

    columns = ("precision", "gate", "slices", "ICH agrees", "location agrees", "largest dp", "mean dp", "dAUC",
               "sensitivity", "specificity", "size")  # fmt: skip
    render.rows(columns, [_row(v, outcome.sizes[v.precision]) for v in outcome.verdicts])
    for verdict in outcome.verdicts:
        for reason in verdict.reasons:
            click.echo(f"{verdict.precision}: {reason}")
    click.echo(f"{outcome.bundle.path}: {', '.join(sorted(outcome.bundle.manifest.models))}")


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

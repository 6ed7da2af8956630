"""The command `dtvit-edge threshold`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dtvit_edge.cli.option_set import BundleOpener, FilePath, bundle_argument, bundle_opener, json_option

if TYPE_CHECKING:
    from evaluation.metrics import Interval
    from evaluation.threshold import TunedLevel, Tuning


@click.command()
@bundle_argument
@click.option("--labels", type=FilePath(), metavar="CSV",
              help="Tune on this labelled set, a CSV with the columns path, patient, ich and location; the slices of "
              "one patient count as one study.")  # fmt: skip
@click.option("--sensitivity", default=0.95, show_default=True, type=click.FloatRange(0, 1, min_open=True), metavar="S",
              help="Take the highest threshold that finds at least this share of the positives.")  # fmt: skip
@click.option("--reset", is_flag=True, help="Go back to 0.5, not tuned.")
@click.option("--seed", default=0, show_default=True, help="Set the seed of the bootstrap.")
@bundle_opener
@json_option
def threshold(
    open_bundle: BundleOpener, labels: Path | None, sensitivity: float, reset: bool, seed: int, as_json: bool
) -> None:
    """Set above which probability a slice or a study is positive, on labelled slices, for BUNDLE.

    The thresholds are written to BUNDLE's thresholds.json, which changes no digest and voids no engine. Tune on
    patients who were not trained on: on the patients of the training, the sensitivity is better than it will be.
    """
    from dtvit_edge.bundle import THRESHOLDS, Thresholds, remove_thresholds, write_thresholds
    from dtvit_edge.cli import render

    if reset == (labels is not None):
        raise click.UsageError("give either --labels CSV or --reset")
    # Thresholds of another manifest are what this command mends.
    opened = open_bundle(ignore_thresholds=True)
    if labels is None:
        remove_thresholds(opened.path)
        render.echo_lines(json.dumps(Thresholds().to_dict()) if as_json else "thresholds are 0.5, not tuned")
        return
    from evaluation.labelled_scores import score_labelled
    from evaluation.labels import read_labels
    from evaluation.threshold import check_asked, tune

    slices = read_labels(labels)
    check_asked(slices, sensitivity)
    scored = score_labelled(opened, slices, progress=render.progress)
    tuning = tune(scored, sensitivity, seed=seed)
    write_thresholds(opened.path, opened.digest, tuning.thresholds)
    if as_json:
        render.echo_lines(json.dumps({"digest": opened.digest, **tuning.thresholds.to_dict(), "notes": tuning.notes}))
        return
    _show(tuning)
    render.echo(opened.path / THRESHOLDS)


def _show(tuning: Tuning) -> None:
    from dtvit_edge.cli import render

    levels: dict[str, TunedLevel | None] = {"slice": tuning.slice, "study": tuning.study}
    columns = ("level", "threshold", "sensitivity", "specificity", "AUC", "positive", "negative", "patients")
    render.rows(columns, [_row(name, level) for name, level in levels.items() if level is not None])
    for name, level in levels.items():
        if level is not None:
            cells = [
                (f"{b.low:.1f} to {b.high:.1f}", f"{b.mean:.3f}", f"{b.positive:.3f}", str(b.count))
                for b in level.reliability
                if b.mean is not None and b.positive is not None
            ]
            render.rows((f"{name}: probability", "mean", "share positive", "count"), cells)
    temperature = tuning.thresholds.temperature
    if temperature is not None:
        render.echo(f"temperature {temperature:.4g}, recorded and not applied")
    for note in tuning.notes:
        render.echo(note)
    render.echo(
        "intervals: 95 %, by patient (Korn and Graubard; AUC by bootstrap), at thresholds chosen on the same patients"
    )


def _row(name: str, level: TunedLevel) -> tuple[str, ...]:
    return (
        name,
        f"{level.threshold:.6g}",
        _interval(level.sensitivity),
        _interval(level.specificity),
        _interval(level.auc),
        str(level.positives),
        str(level.negatives),
        str(level.patients),
    )


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"

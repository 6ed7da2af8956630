"""The options of a calibration, for every command that calibrates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dtvit_edge.cli.option_set import FilePath, FiniteRange, option_set
from dtvit_edge.precisions import LOWER
from evaluation.limits import limit_options, split_limits

if TYPE_CHECKING:
    from calibration.calibrate import Config

# A command takes `slices`, `test_slices` and `other`, and the others are for `config_of`.
calibration_options = option_set(
    click.option(
        "--slices",
        multiple=True,
        type=FilePath(),
        help="Take slices from this study folder or labelled CSV; may be repeated. They are split by patient into "
        "three sets: calibration gives the ranges, validation chooses how they are computed and which ops keep higher "
        "precision, and test decides whether a precision passes.",
    ),
    click.option(
        "--test-slices",
        multiple=True,
        type=FilePath(),
        help="Take the whole test set from this study folder or labelled CSV; may be repeated. Its patients are left "
        "out of the other two sets. Without it, two fifths of the patients of --slices are the test set.",
    ),
    click.option(
        "--other",
        multiple=True,
        type=FilePath(),
        help="Judge on another site's slices as well: a study folder, a folder of PNG or JPEG with one folder a "
        "patient, or a CSV, labelled or not; may be repeated. They give no range and choose nothing.",
    ),
    click.option(
        "--count",
        default=512,
        show_default=True,
        type=click.IntRange(1),
        help="Use at most this many slices in the calibration set.",
    ),
    click.option(
        "--recipe",
        default="linear",
        show_default=True,
        type=click.Choice(["linear", "attention"]),
        help="Choose which ops are quantised. 'linear' takes the encoder's linear layers and convolutions; 'attention' "
        "adds attention's two matrix products, as TensorRT's fused INT8 attention needs, and makes CPUs slower.",
    ),
    click.option(
        "--alpha",
        default=0.5,
        show_default=True,
        type=FiniteRange(0, 1),
        help="Set how much of the outliers smoothing moves from the activations into the weights.",
    ),
    click.option(
        "--smooth/--no-smooth",
        default=True,
        show_default=True,
        help="Fold the outliers of activations into the weights before quantising.",
    ),
    click.option(
        "--budget",
        metavar="KIND=LIMIT",
        help="Keep as many of the costliest operators in higher precision as this asks for, at most half of them: "
        "rms=0.05 as few as give an error of at most 0.05 in logits, latency=0.4 as many as leave the time of a slice "
        "at 0.4 of fp32's. Without it, as many as the gate needs on the validation set. The gate judges in any case.",
    ),
    click.option(
        "--only",
        multiple=True,
        type=click.Choice(LOWER),
        help="Make and judge this precision alone; may be repeated. What an earlier calibration made and this one does "
        "not leaves the bundle. fp16, int8-fp16 and fp8 take most of the time, and a machine that runs a bundle on its "
        "CPU needs none of them.",
    ),
    limit_options,
    click.option("--seed", default=0, show_default=True, help="Set the seed of the sampling and of the bootstrap."),
)


def config_of(
    *,
    count: int,
    recipe: str,
    alpha: float,
    smooth: bool,
    budget: str | None,
    only: tuple[str, ...],
    seed: int,
    **limits: float,
) -> Config:
    """The configuration that the options ask for; `limits` are those of `limit_options`."""
    from calibration.budget import Budget
    from calibration.calibrate import Config

    return Config(
        recipe=recipe,
        alpha=alpha if smooth else None,
        calibration_slices=count,
        budget=None if budget is None else Budget.parse(budget),
        only=only or LOWER,
        limits=split_limits(limits)[0],
        seed=seed,
    )

"""Options of `score` that are about more than one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dtvit_edge.cli.option_set import option_set, refuse_given
from dtvit_edge.errors import ConfigError

if TYPE_CHECKING:
    from dtvit_edge.cluster.ray_model import RayOptions
    from dtvit_edge.scoring.shards import Shard


def _shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    if value is None:
        return None
    from dtvit_edge.scoring.shards import Shard

    try:
        return Shard.parse(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


shard_option = click.option(
    "--shard", callback=_shard, metavar="I/N",
    help="Score the I-th of N shards of the studies; `merge` makes one result of all of them.",
)  # fmt: skip
ray_options = option_set(
    click.option("--ray", metavar="ADDRESS",
                 help="Score in workers on Ray: `local` for this machine's GPUs and cores, `auto` or HOST:PORT for a "
                 "cluster."),
    click.option("--actors", type=click.IntRange(1), metavar="N",
                 help="Begin N workers on Ray, each with a GPU or with --threads cores.  [default: all there is]"),
    click.option("--mixed", is_flag=True,
                 help="Take workers on Ray that differ in device or versions; results are within tolerance then."),
)  # fmt: skip


def asked_of_ray(ray: str | None, actors: int | None, mixed: bool) -> RayOptions | None:
    """How a run goes to Ray; None where it does not.

    Raises:
        click.UsageError: options that go with --ray alone, or not with it.
    """
    if ray is None:
        refuse_given({"actors", "mixed"}, "goes with --ray")
        return None
    from dtvit_edge.cluster.ray_model import RayOptions

    refuse_given({"with_report"}, "asks the model on this machine: run `dtvit-edge report` after --ray")
    return RayOptions(ray, actors, mixed)

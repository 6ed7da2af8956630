"""Options of `score` that are about more than one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dtvit_edge.errors import ConfigError

if TYPE_CHECKING:
    from dtvit_edge.scoring.shards import Shard


def _shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    from dtvit_edge.scoring.shards import Shard

    try:
        return None if value is None else Shard.parse(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


shard_option = click.option(
    "--shard", callback=_shard, metavar="I/N",
    help="Score the I-th of N shards of the studies; `merge` makes one result of all of them.",
)  # fmt: skip

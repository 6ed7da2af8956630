"""The command `dtvit-edge merge`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath, json_option
from dtvit_edge.spec import NOTICE


@click.command(short_help="Make one result of the shards of a run.")
@click.argument("shards", nargs=-1, required=True, type=FilePath())
@click.option("-o", "--out", required=True, type=FilePath(), metavar="OUT",
              help="Write the results to this folder.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the results of another run or merge.")
@json_option
def merge(shards: tuple[Path, ...], out: Path, overwrite: bool, as_json: bool) -> None:
    """Make one result of SHARDS, the output folders of `score --shard 1/N` to `N/N`.

    Writes the tables of one run over all studies to OUT, byte for byte, and run.json (last).
    Exit status: as of `score`; 2 where a shard is missing, doubled, not finished, or of another run.
    """
    from dtvit_edge.cluster.merge import merge as merge_shards
    from dtvit_edge.report.files import remove_stale

    merged = merge_shards(shards, out, overwrite=overwrite)
    remove_stale(out)  # pages of other results that lay there
    if as_json:
        summary = {
            "slices": merged.counts,
            "reasons": merged.reasons,
            "studies": merged.studies,
            "shards": merged.shards,
            "files": [str(file) for file in merged.files],
            "model_status": merged.training,
            "untrained_heads": merged.untrained_heads,
            "notice": NOTICE,
        }
        render.echo_lines(json.dumps(summary, indent=1))
    else:
        render.merged(merged)
    raise SystemExit(merged.exit_status)

"""The command `dtvit-edge tune`."""

from __future__ import annotations

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import BundleOpener, FiniteRange, bundle_argument, bundle_opener, json_option


@click.command(short_help="Measure what scores fastest on this machine.")
@bundle_argument
@click.option("--seconds", type=FiniteRange(1, 3600), default=60, show_default=True, metavar="S",
              help="Measure for about S seconds.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what was measured; write nothing.")
@bundle_opener
@json_option
def tune(open_bundle: BundleOpener, seconds: float, dry_run: bool, as_json: bool) -> None:
    """Measure which configuration of BUNDLE scores fastest on this machine, of those that are faithful.

    Backends, precisions and hints that passed their gate, threads and batches are timed on the golden slices; fp32
    always is. The choice is written to device-profile.json in BUNDLE, and `score` takes it for new outputs.

    Exit status 1 where nothing answers the golden slices as it has to.
    """
    from dtvit_edge.bundle.device_profile import require_writable, write_profile
    from dtvit_edge.scoring.tuning import Tuner

    opened = open_bundle()
    if not dry_run:
        require_writable(opened.path)
    profile = Tuner(opened, seconds).run(render.progress)
    written = None if dry_run else write_profile(opened.path, profile)
    render.tuned(profile, written, as_json=as_json)

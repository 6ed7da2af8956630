"""The command `dtvit-edge sign`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import bundle_argument, bundle_options, json_option


@click.command(short_help="Sign a bundle, so that others can trust it.")
@bundle_argument
@click.option("--key", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Sign with this private key, which `ssh-keygen -t ed25519` made.")  # fmt: skip
@bundle_options
@json_option
def sign(bundle: Path, key: Path, expect_digest: str | None, trust: tuple[Path, ...] | None, as_json: bool) -> None:
    """Sign BUNDLE, after checking its digests: its manifest, which names every file, and its thresholds.

    The signature is written to bundle.sig, in place of an earlier one; a passphrase is asked for on the terminal. Other
    commands take the bundle with --trust NAME.pub from those who know the key.
    """
    from dtvit_edge.bundle import SIGNATURE, Bundle, write_signature

    opened = Bundle.open(bundle, expect_digest=expect_digest, trust=trust)
    opened.check_files()
    signer = write_signature(opened.path, opened.signed, key, render.ask_passphrase)
    if as_json:
        render.echo_lines(json.dumps({"digest": opened.digest, "thresholds": opened.thresholds_digest, "key": signer}))
    else:
        render.echo(f"{opened.path / SIGNATURE}: signed by {signer}")

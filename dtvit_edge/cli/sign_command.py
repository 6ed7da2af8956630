"""The command `dtvit-edge sign`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import BundleOpener, FilePath, bundle_argument, bundle_opener, json_option


@click.command(short_help="Sign a bundle, so that others can trust it.")
@bundle_argument
@click.option("--key", required=True, type=FilePath(), metavar="FILE",
              help="Sign with this private key, which `ssh-keygen -t ed25519` made.")  # fmt: skip
@bundle_opener
@json_option
def sign(open_bundle: BundleOpener, key: Path, as_json: bool) -> None:
    """Sign BUNDLE, after checking its digests: its manifest, which names every file, and its thresholds.

    The signature is written to bundle.sig, in place of an earlier one; a passphrase is asked for on the terminal. Other
    commands take the bundle with --trust NAME.pub from those who know the key.
    """
    from dtvit_edge.bundle import SIGNATURE, write_signature

    opened = open_bundle()
    opened.check_files()
    signer = write_signature(opened.path, opened.signed, key, render.ask_passphrase)
    if as_json:
        render.echo_lines(json.dumps({"digest": opened.digest, "thresholds": opened.thresholds_digest, "key": signer}))
    else:
        render.echo(f"{opened.path / SIGNATURE}: signed by {signer}")

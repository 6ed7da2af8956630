"""The commands `dtvit-edge sr`, `replay` and `serve`: objects for a PACS."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import accept_option, bundle_options, json_option
from dtvit_edge.errors import VerdictError


@click.command(short_help="Write a run's results as DICOM objects.")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("studies", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--to", "to", required=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write the objects to this folder.")  # fmt: skip
@click.option("--key-image", "with_key_image", is_flag=True,
              help="Write the top slice of flagged studies as a secondary capture as well.")  # fmt: skip
@json_option
def sr(out: Path, studies: tuple[Path, ...], to: Path, with_key_image: bool, as_json: bool) -> None:
    """Write an SR for each study of the finished run in OUT, whose files lie below STUDIES.

    Patient and order are copied from the files. A study whose images name two patients has none.
    """
    from dtvit_edge.pacs.write import write_objects

    written = write_objects(out, studies, to, with_key_image=with_key_image, progress=render.progress)
    if as_json:
        found = {"files": [path.name for path in written.files], "without": written.without}
        render.echo_lines(json.dumps(found, indent=1))
    else:
        render.echo(f"{len(written.files)} objects in {to}")


@click.command(short_help="Score the study of an SR again and compare.")
@click.argument("object", type=click.Path(path_type=Path))
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--bundle", required=True, type=click.Path(path_type=Path), metavar="BUNDLE",
              help="Score with this bundle, which has to be the one that OBJECT names.")  # fmt: skip
@click.option("--backend", metavar="NAME", help="Choose the backend.  [default: the one that OBJECT names]")
@accept_option
@bundle_options
@json_option
def replay(
    object: Path,
    folders: tuple[Path, ...],
    bundle: Path,
    backend: str | None,
    accept_engines: tuple[str, ...],
    expect_digest: str | None,
    trust: tuple[Path, ...] | None,
    as_json: bool,
) -> None:
    """Score the study that the SR OBJECT is about again, from its files below FOLDERS, and compare.

    Exit status 1 where the result is not the same.
    """
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.pacs.replay import replay as replayed

    opened = Bundle.open(bundle, expect_digest=expect_digest, accept_engines=accept_engines, trust=trust)
    done = replayed(object, opened, folders, backend=backend, progress=render.progress)
    if as_json:
        render.echo_lines(json.dumps({"equal": done.equal, "differences": done.differences}, indent=1))
    elif done.equal:
        render.echo("equal: the same status, reasons, flag, probability, location and top slice")
    if not done.equal:
        raise VerdictError("not equal: " + "; ".join(done.differences))

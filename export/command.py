"""The command `dtvit-edge export`, also `python -m export`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath, json_option
from dtvit_edge.spec import LOCATION_HEAD, UNTRAINED_LOCATION
from export.options import import_options

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle

# How slices become a study: images with their outputs do not show it.
_OF_STUDIES: tuple[str, ...] = ("preprocess.thickness", "preprocess.top_places")


@click.command()
@click.argument("weights", type=FilePath())
@click.option("-o", "--out", "--output", "output", type=FilePath(), metavar="NAME.dtvit",
              help="Write the bundle to this folder.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a bundle of that name.")
@import_options
@click.option("--dump-import", "dump", type=FilePath(dir_okay=False), metavar="FILE",
              help="Write what is concluded about WEIGHTS as an import.toml, to be corrected, and export "
              "nothing.")  # fmt: skip
@json_option
def export(
    weights: Path,
    output: Path | None,
    expect: Path | None,
    dump: Path | None,
    overwrite: bool,
    as_json: bool,
    **said: Any,
) -> None:
    """Turn the checkpoint WEIGHTS into a bundle whose parity with PyTorch is proved.

    Where float16 answers too far from PyTorch, the bundle is written without fp16, and the exit status is 1. Where a
    float32 file does, nothing is written.
    """
    from dtvit_edge.errors import VerdictError
    from export.bundle_export import export_bundle
    from export.importing import ImportOptions

    if dump is not None:
        from export.dump_import import dump_import

        dump_import(weights, ImportOptions(**said, lenient=True), dump, overwrite=overwrite)
        render.echo(f"import    {dump}")
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    bundle = export_bundle(
        weights,
        output,
        ImportOptions(**said),
        expect=expect,
        overwrite=overwrite,
        progress=lambda line: render.echo(line, err=True),
    )
    _show(bundle, as_json=as_json)
    if bundle.manifest.refusals:
        reasons = "; ".join(bundle.manifest.refusals.values())
        raise VerdictError(f"{bundle.path} is written without {', '.join(bundle.manifest.refusals)}: {reasons}")


def _show(bundle: Bundle, *, as_json: bool) -> None:
    from dtvit_edge.cli import units

    manifest = bundle.manifest
    worst = {name: max(manifest.parity[name]["max_abs_difference"].values()) for name in manifest.models}
    if as_json:
        render.echo_lines(json.dumps({
            "bundle": str(bundle.path),
            "digest": bundle.digest,
            "encoder": manifest.encoder,
            "training": manifest.training,
            "untrained_heads": manifest.untrained_heads,
            "bytes": {name: record.bytes for name, record in manifest.models.items()},
            "parity": worst,
            "refused": manifest.refusals,
            "imported": manifest.imported,
            "proof": manifest.proof,
        }))  # fmt: skip
        return
    render.echo_lines(f"bundle    {bundle.path}\ndigest    {bundle.digest}")
    render.echo(f"encoder   {manifest.encoder} ({manifest.training})")
    for name, record in manifest.models.items():
        size, allowed = units.size(record.bytes), manifest.tolerances[name]
        render.echo(f"{name:<9} {size}, at most {worst[name]:.3g} from PyTorch in float64 (allowed {allowed:g})")
    if manifest.proof is not None:
        render.echo(f"proved    against your own outputs, at most {manifest.proof['max_abs_difference']:.2g} apart")
    assumed = list((manifest.imported or {}).get("assumed", ()))
    unseen = unproved(assumed, manifest.proof)
    if manifest.proof is None and (provable := [name for name in assumed if name not in unseen]):
        render.echo(f"assumed   {', '.join(provable)}; --expect proves them on your own images")
    if unseen:
        what = "what --expect is given" if manifest.proof is None else "what was given"
        render.echo(f"assumed   {', '.join(unseen)}; {what} does not show them")
    if LOCATION_HEAD in manifest.untrained_heads:
        render.echo(UNTRAINED_LOCATION)


def unproved(assumed: Sequence[str], proof: Mapping[str, Any] | None) -> list[str]:
    """What was assumed and no proof by images shows: what is of studies, and of this proof what it was not given."""
    unseen = _OF_STUDIES
    if proof is not None and not proof["preprocessing_proved"]:
        unseen += ("preprocess.",)
    if proof is not None and all(name.startswith("ich") for name in proof["outputs"]):
        unseen += ("heads.location.",)
    return [name for name in assumed if name.startswith(unseen)]

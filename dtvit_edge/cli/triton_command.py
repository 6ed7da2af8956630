"""The command `dtvit-edge triton`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import BundleOpener, FilePath, accept_option, bundle_argument, bundle_opener, json_option


@click.command(short_help="Write a model repository for Triton.")
@bundle_argument
@click.option("-o", "--out", "repo", required=True, type=FilePath(), metavar="REPO",
              help="Write to this repository, beside other models that it may hold.")  # fmt: skip
@click.option("--backend", default="auto", show_default=True, metavar="NAME",
              help="Serve with tensorrt or onnxruntime; auto takes TensorRT where an engine is there.")  # fmt: skip
@click.option("--precision", default="auto", show_default=True, metavar="NAME",
              help="Serve this precision; with auto the engine's, or fp32.")  # fmt: skip
@click.option("--instances", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Let the server run N of each model, on each GPU or on the CPU.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Compute with N threads in each checked model on a CPU.")  # fmt: skip
@click.option("--bundle-at", metavar="PATH", help="Say where the server finds BUNDLE.  [default: where it lies here]")
@click.option("--overwrite", is_flag=True, help="Replace both models of an earlier call.")
@accept_option
@bundle_opener
@json_option
def triton(
    open_bundle: BundleOpener,
    repo: Path,
    backend: str,
    precision: str,
    instances: int,
    threads: int,
    bundle_at: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write two models that a Triton inference server runs to REPO, made of BUNDLE.

    `dtvit` is the engine or the ONNX file for the server's own backends; `dtvit_checked` opens BUNDLE itself, and is
    ready only once its digests are right and its golden slices have passed on the server.
    """
    from dtvit_edge.cluster.triton_repository import write_repository

    opened = open_bundle()
    written = write_repository(
        opened, repo, precision=precision, backend=backend, instances=instances, threads=threads,
        bundle_at=bundle_at, overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        render.echo_lines(json.dumps(asdict(written) | {"path": str(written.path)}, indent=1))
    else:
        render.echo(f"{written.precision} with {written.backend}, batches up to {written.max_batch}: {written.needs}")
        for name in written.models:
            render.echo(written.path / name)

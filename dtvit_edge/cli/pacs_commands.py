"""The commands `dtvit-edge sr`, `replay` and `serve`: objects for a PACS."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import (
    BundleOpener,
    FilePath,
    FiniteRange,
    accept_option,
    bundle_argument,
    bundle_opener,
    device_option,
    json_option,
    threads_option,
    threshold_option,
)
from dtvit_edge.errors import VerdictError


@click.command(short_help="Write a run's results as DICOM objects.")
@click.argument("out", type=FilePath())
@click.argument("studies", nargs=-1, required=True, type=FilePath())
@click.option("-o", "--to", "to", required=True, type=FilePath(), metavar="FOLDER",
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
@click.argument("object", type=FilePath())
@click.argument("folders", nargs=-1, required=True, type=FilePath())
@click.option("--bundle", required=True, type=FilePath(), metavar="BUNDLE",
              help="Score with this bundle, which has to be the one that OBJECT names.")  # fmt: skip
@click.option("--backend", metavar="NAME", help="Choose the backend.  [default: the one that OBJECT names]")
@accept_option
@bundle_opener
@json_option
def replay(
    object: Path, folders: tuple[Path, ...], open_bundle: BundleOpener, backend: str | None, as_json: bool
) -> None:
    """Score the study that the SR OBJECT is about again, from its files below FOLDERS, and compare.

    Exit status 1 where the result is not the same.
    """
    from dtvit_edge.pacs.replay import replay as replayed

    opened = open_bundle()
    done = replayed(object, opened, folders, backend=backend, progress=render.progress)
    if as_json:
        render.echo_lines(json.dumps({"equal": done.equal, "differences": done.differences}, indent=1))
    elif done.equal:
        render.echo("equal: the same status, reasons, flag, probability, location and top slice")
    if not done.equal:
        raise VerdictError("not equal: " + "; ".join(done.differences))


@click.command(short_help="Take studies from a PACS, and send results back.")
@bundle_argument
@click.option("-o", "--folder", required=True, type=FilePath(), metavar="FOLDER",
              help="Keep what was received, and what was sent, in this folder.")  # fmt: skip
@click.option("--pacs", required=True, metavar="AET@HOST:PORT", help="Send results to this application entity.")
@click.option("--title", default="DTVIT", show_default=True, metavar="AET", help="Be this application entity.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Listen at this address of the machine.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="Listen at this port.")
@click.option("--allow", multiple=True, metavar="AET@HOST",
              help="Take studies from this application entity; may be repeated.  [default: the PACS]")  # fmt: skip
@click.option("--after", "quiet_seconds", type=FiniteRange(0.1, 86400), default=10.0, show_default=True,
              metavar="SECONDS", help="Score a study when no suitable slice has come for so long.")  # fmt: skip
@click.option("--keep", "keep_hours", type=FiniteRange(0, 87600), default=24.0, show_default=True,
              metavar="HOURS", help="Delete received files after so long.")  # fmt: skip
@click.option("--most-mib", type=click.IntRange(1, 1024), default=512, show_default=True, metavar="MIB",
              help="Refuse larger objects.")  # fmt: skip
@click.option("--status-port", type=click.IntRange(0, 65535), default=8042, show_default=True, metavar="PORT",
              help="Serve /health and /metrics at this port of the loopback address.")  # fmt: skip
@click.option("--heartbeat", "heartbeat_hours", type=FiniteRange(0, 8760, min_open=True), metavar="HOURS",
              help="Send a phantom through the PACS and back so often; late or wrong is red.")  # fmt: skip
@click.option("--key-image", "with_key_image", is_flag=True,
              help="Send the top slice of flagged studies as a secondary capture as well.")  # fmt: skip
@click.option("--resend", is_flag=True, help="Send once more what the PACS refused for good.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME",
              help="Choose the backend: auto, or a name that `doctor` lists.")  # fmt: skip
@click.option("--precision", default="auto", show_default=True, metavar="NAME",
              help="Choose the precision of the model or engine.")  # fmt: skip
@threads_option
@device_option
@threshold_option
@accept_option
@bundle_opener
def serve(
    open_bundle: BundleOpener,
    folder: Path,
    pacs: str,
    title: str,
    host: str,
    port: int,
    allow: tuple[str, ...],
    most_mib: int,
    backend: str,
    precision: str,
    threads: int | None,
    device: int | None,
    threshold: float | None,
    **settings: Any,
) -> None:
    """Take studies from a PACS, score them with BUNDLE when they are quiet, and send an SR of each new result back.

    SIGTERM and SIGINT end it in order, with status 0. There is no TLS: listen on the loopback address, or in a network
    that you trust.
    """
    from dtvit_edge.pacs.peers import peer
    from dtvit_edge.pacs.peers import title as titled
    from dtvit_edge.pacs.receiver import ReceiverSettings
    from dtvit_edge.pacs.service import Service, ServiceSettings
    from dtvit_edge.scoring.api import Options

    to = peer(pacs, with_port=True)
    allowed = tuple(peer(text, with_port=False) for text in allow) or (to,)
    receiver = ReceiverSettings(titled(title), host, port, allowed, most_mib << 20)
    options = Options(backend=backend, precision=precision, threads=threads, device=device, threshold=threshold)
    opened = open_bundle()
    service = Service(opened, options, ServiceSettings(folder, to, receiver, **settings))
    with _ended_by_signals(service.end):
        service.run()


@contextmanager
def _ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP call this, instead of what they do to other commands."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: end()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

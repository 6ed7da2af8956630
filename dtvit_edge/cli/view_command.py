"""The command `dtvit-edge view`: pages of a run's results, for people and their browsers."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import ConfigError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8417
LEAST_TOKEN, _LONGEST_TOKEN = 16, 1024


@click.command(short_help="Show the results of a run in a browser.")
@click.argument("out", type=FilePath())
@click.option("--host", default=DEFAULT_HOST, show_default=True, metavar="ADDRESS",
              help="Listen on this address; one that other machines reach asks for a token.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, metavar="N",
              help="Listen on port N; 0 takes a free one.")  # fmt: skip
@click.option("--token-file", type=FilePath(), metavar="FILE",
              help="Ask for the token in FILE, which nobody else may read.  [default: a new one, where one is "
              "needed]")  # fmt: skip
@click.option("--name", "names", multiple=True, metavar="NAME",
              help="Answer to this name of the machine as well; may be repeated.")  # fmt: skip
def view(out: Path, host: str, port: int, token_file: Path | None, names: tuple[str, ...]) -> None:
    """Show the results in OUT, of a run that goes on or has ended, in a browser on this machine.

    Nothing is written, and nothing is sent anywhere. Ctrl-C or SIGTERM ends it, with status 130.
    """
    from dtvit_edge.report.page_server import Pages, address_of, application, listen, serve

    is_local = _is_loopback(host)
    token = _token(token_file) if token_file is not None else None if is_local else secrets.token_urlsafe(32)
    known = ("localhost", host, *names, *(() if is_local else (socket.gethostname(),)))
    app = application(Pages(out), known, token, only_loopback=is_local)
    with listen(host, port) as listening:
        # A token from a file is known to who needs it, and would stay in the terminal.
        render.echo(address_of(listening, host, None if token_file is not None else token))
        serve(app, listening)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(file: Path) -> str:
    """The token in a file.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is no token.
    """
    from dtvit_edge.files import read_regular

    try:
        text = read_regular(file, _LONGEST_TOKEN, secret=True).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(f"the token in {file} cannot be used: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the token in {file} cannot be used: it is not plain ASCII text") from error
    if len(text) < LEAST_TOKEN or not text.isprintable() or " " in text:
        raise ConfigError(f"the token in {file} cannot be used: it needs {LEAST_TOKEN} signs at least, without blanks")
    return text

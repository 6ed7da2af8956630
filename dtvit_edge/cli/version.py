"""The version of this code, wherever it runs from."""

from __future__ import annotations

import re
from pathlib import Path

import click

NAME = "dtvit-edge"
# Lies beside the package in a checkout, and never in a wheel.
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def version() -> str:
    """The version: a checkout's own, installed or not, else the wheel's; `unknown` where neither says it."""
    try:
        text = _PROJECT.read_text(encoding="utf-8")
    except OSError:
        text = ""
    if re.search(rf'^name = "{NAME}"$', text, re.MULTILINE):
        stated = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)
        if stated is not None:
            return stated.group(1)
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed_version

    try:
        return installed_version(NAME)
    except PackageNotFoundError:
        return "unknown"


def print_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    """The callback of `--version`: the version is looked up only when it is asked for."""
    if value and not ctx.resilient_parsing:
        from dtvit_edge.cli.terminal import echo

        echo(f"{NAME}, version {version()}")
        ctx.exit()

"""README's commands and links are what the code says; its figures are tested with `benchmarks.report.figures_page`."""

from __future__ import annotations

import re
import shlex
from importlib import import_module

import click
import pytest

from dtvit_edge.cli.commands import WORKSTATION_COMMANDS, cli
from tests.support.data import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("dtvit-edge")])
def test_every_command_is_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line.split(" | ")[0])
    if name in WORKSTATION_COMMANDS:
        module, attribute, _ = WORKSTATION_COMMANDS[name]
        command = getattr(import_module(module), attribute)
    else:
        command = cli.commands[name]
    with click.Context(command) as context:
        command.parse_args(context, arguments)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_has_the_two_commands(target: str) -> None:
    assert f"make {target}" in " ".join(commands())
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link

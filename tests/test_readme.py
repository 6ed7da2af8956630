"""README's commands, links, tables and figures are what the code says. Run this file to write the tables anew."""

from __future__ import annotations

import re
import shlex
from importlib import import_module

import click
import pytest

from benchmarks.report.figures_page import tables
from benchmarks.results import CPU_RECORDS
from dtvit_edge.cli.commands import WORKSTATION_COMMANDS, cli
from evaluation.records import latest
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


@pytest.mark.parametrize("name", sorted(tables()))
def test_tables_are_what_code_and_records_say(name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)
    assert found is not None
    assert found.group(1) == tables()[name], "python -m benchmarks.report.figures_page writes it anew"


def test_the_figures_have_records() -> None:
    from benchmarks.measure import slice_cost
    from benchmarks.standalone import graph_rewrites, startup

    for module in (graph_rewrites, slice_cost, startup):
        assert latest(CPU_RECORDS, module.WHAT) is not None, module.__name__

"""docs/figures.md and the generated parts of other pages are what the code and the records say."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from benchmarks.peers import PLAIN_EXPORTS
from benchmarks.report import page_parts, single_questions
from benchmarks.report.figures_page import PAGE, figures_page, gate_part, tables
from benchmarks.report.page_parts import EXIT_STATUSES, key_figures, key_figures_with_commands
from benchmarks.report.run_view import run_records, run_views
from benchmarks.results import BENCH_RECORDS, CPU_RECORDS, EVALUATION_RECORDS, FOLDER, GATE_RECORDS
from dtvit_edge.cli.commands import WORKSTATION_COMMANDS
from dtvit_edge.errors import BuildKilled, BundleError, DtvitError, VerdictError
from evaluation.records import append, latest, read
from tests.support.data import ROOT

ANEW = "python -m benchmarks.report.figures_page writes it anew"
PARTS = [(page, name) for page, parts in tables().items() for name in parts]


def test_the_page_of_figures_is_what_the_records_say() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == figures_page(), ANEW
    assert "{{" not in figures_page()


@pytest.mark.parametrize(("page", "name"), PARTS)
def test_tables_are_what_code_and_records_say(page: str, name: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    table = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert table is not None
    assert table.group(1) == tables()[page][name], ANEW


def test_the_figures_have_records() -> None:
    for what in single_questions.FIGURES:
        assert latest(CPU_RECORDS, what) is not None, what


def test_a_configuration_has_one_row_against_a_peer_from_its_newest_run() -> None:
    views = run_views(run_records(BENCH_RECORDS))
    rows = [what for what, _, _ in single_questions.rows(views, []) if ", vit-b16 (" in what]
    assert [what.split(", vit-b16")[0] for what in rows] == [
        "openvino int8 against PyTorch eager", "onnxruntime int8 against PyTorch eager"
    ]  # fmt: skip
    assert list(single_questions.rows([*views, *views], [])) == list(single_questions.rows(views, []))
    plain = [what for what, _, _ in single_questions.rows(views, []) if "plain export" in what]
    assert {what.split(", demo")[0] for what in plain} == {
        f"{configuration} against {peer}" for peer, configuration in PLAIN_EXPORTS.items()
    }


def test_no_row_of_a_gate_that_was_switched_off_says_passed() -> None:
    off = [r for r in read(GATE_RECORDS) if "--agreement 0" in r.options["command"]]
    assert off and all(set(r.options["verdicts"].values()) == {"passed"} for r in off)  # as they were recorded
    names = tuple(f"| {r.options['name']} (" for r in off)
    rows = [line for line in figures_page().splitlines() if line.startswith(names)]
    assert rows and all(row.split(" | ")[2] == "not gated" for row in rows)
    assert "(not gated)" in key_figures()


@pytest.mark.parametrize("configurations", [{"int8+bf16": "failed"}, {}], ids=["one", "none"])
def test_a_configuration_has_its_verdict_beside_the_calibrations_command(
    configurations: dict[str, str], tmp_path: Path
) -> None:
    record = next(r for r in read(GATE_RECORDS) if r.options["name"] == "demo, phantoms")
    append(tmp_path / "gate.jsonl", replace(record, options=record.options | {"configurations": configurations}))
    said = "; int8+bf16, which has no file of its own: failed\n" in gate_part(tmp_path / "gate.jsonl")
    assert said == bool(configurations)


def test_readme_has_five_figures_and_the_page_the_command_of_each() -> None:
    rows = [line for line in key_figures().splitlines() if line.startswith("| ")][1:]
    with_commands = [line for line in key_figures_with_commands().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(with_commands) == 5
    for row, longer in zip(rows, with_commands, strict=True):
        assert longer.startswith(row) and longer.removeprefix(row).startswith(" `"), row


def test_figures_of_a_demo_that_was_replaced_are_said_to_be_of_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evaluated = [r for r in read(EVALUATION_RECORDS) if r.options.get("model") == page_parts.DEMO][-1]
    timed = [view for view in run_views(run_records(BENCH_RECORDS)) if view.name == page_parts.DEMO][-1]
    monkeypatch.setattr(page_parts, "EVALUATION_RECORDS", tmp_path / "paper.jsonl")
    for encoder, of_before in ((timed.encoder, 0), ("another", 2)):
        append(tmp_path / "paper.jsonl", replace(evaluated, options=evaluated.options | {"encoder": encoder}))
        assert key_figures().count(f"the demo model of before ({timed.encoder})") == of_before
        assert key_figures().count("the demo model") == 3  # its evaluation among them


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.jsonl")), ids=lambda file: file.name)
def test_every_recorded_command_calls_a_module_of_today(file: Path) -> None:
    for record in read(file):
        words = shlex.split(record.options["command"])
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) is not None, words[2]
        else:
            words = [word for word in words if word != "-q"]
            group = import_module(WORKSTATION_COMMANDS[words[1]][0])
            command = getattr(group, WORKSTATION_COMMANDS[words[1]][1])
            with click.Context(command.commands["run"] if words[1] == "bench" else command) as context:
                context.command.parse_args(context, words[2:])
        assert "benchmarks/records" not in record.options["command"]


def test_exit_statuses_are_those_of_the_errors() -> None:
    assert list(EXIT_STATUSES) == [0, 1, 2, 3, 4, 5, 6, 130, 141]
    assert (VerdictError.exit_status, DtvitError.exit_status, BuildKilled.exit_status) == (1, 2, 5)
    assert BundleError.exit_status in EXIT_STATUSES


def test_every_module_that_make_calls_is_there() -> None:
    modules = re.findall(r"(?:python|PYTHON\)) -m ([\w.]+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert {"benchmarks.gpu_check", "training.phe_sich"} <= set(modules)
    for module in modules:
        assert find_spec(module) is not None, module

"""What people read is what the code does: commands parse and run, links lead somewhere, quoted messages are raised."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import WORKSTATION_COMMANDS, cli, main
from dtvit_edge.scoring.csv_columns import LAST_COLUMNS
from dtvit_edge.scoring.csv_files import SLICE_COLUMNS, STUDY_COLUMNS
from dtvit_edge.scoring.series_file import SERIES_COLUMNS, STATION
from dtvit_edge.spec import PreprocessSpec
from dtvit_edge.targets.table import TARGETS
from tests.support.data import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "examples" / "README.md",
        ROOT / "export" / "demo" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
ROOMS = ("dtvit_edge", "export", "evaluation", "calibration", "training", "benchmarks")
# Run for real on a tiny bundle, as the page spells them; the others need a GPU, minutes, or files of the reader's.
CHEAP = ("doctor", "phantom", "inspect", "verify", "compat", "score")
NEEDS_MORE = ("--trust", "--precision fp16", "--precision int8", "--backend tensorrt", "phantoms/ ", "--ray")


def lines_of(text: str) -> list[str]:
    """The commands of a page's `sh` blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def commands(*, cheap: bool = False) -> list[str]:
    """Every `dtvit-edge` line of every page, each once."""
    lines = dict.fromkeys(line for text in PAGES.values() for line in lines_of(text) if line.startswith("dtvit-edge "))
    if not cheap:
        return list(lines)
    return [
        line
        for line in lines
        if line.split()[1] in CHEAP and "|" not in line and not any(part in f"{line} " for part in NEEDS_MORE)
    ]


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line.split(" | ")[0])
    if name in WORKSTATION_COMMANDS:
        module, attribute, _ = WORKSTATION_COMMANDS[name]
        command = getattr(import_module(module), attribute)
    else:
        command = cli.commands[name]
    if isinstance(command, click.Group):  # bench, whose default is `run`
        with click.Context(command) as context:
            command.parse_args(context, list(arguments))
        name = arguments.pop(0) if arguments[0] in command.commands else "run"
        command = command.commands[name]
    with click.Context(command) as context:
        command.parse_args(context, arguments)


@pytest.fixture
def reader(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the pages assume it: `model.dtvit` and `studies/`."""
    shutil.copytree(tiny_bundle.path, tmp_path / "model.dtvit")
    shutil.copytree(phantom_folder, tmp_path / "studies", ignore=shutil.ignore_patterns("truth.csv"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", commands(cheap=True))
def test_cheap_commands_run(line: str, reader: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(line.replace("SHA256", tiny_bundle.digest))[1:]
    assert main(arguments) == 0, capsys.readouterr().err


def test_the_first_run_by_hand(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = PAGES["docs/quickstart.md"].split("## The first run by hand")[1]
    for line in (line for line in lines_of(section) if line.startswith("dtvit-edge")):
        assert main(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"
    assert (reader / "results" / "slices.csv").read_text().count(",scored,") > 10


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)#\s]+)\)", PAGES[page]):
        assert link.startswith("https://") or (folder / link).exists(), link


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        target
        for text in PAGES.values()
        for code in (*lines_of(text), *re.findall(r"`([^`\n]+)`", text))
        for target in re.findall(r"^make ([a-z-]+)", code)
    }
    assert named <= targets
    assert {"demo", "test"} <= named


def python_blocks() -> list[tuple[str, bool, str]]:
    """(page, whether it is marked as runnable, code) of every `python` block."""
    pattern = re.compile(r"(<!-- run -->\n)?```python\n(.*?)```", re.DOTALL)
    return [(page, bool(mark), code) for page, text in PAGES.items() for mark, code in pattern.findall(text)]


@pytest.mark.parametrize(("page", "runnable", "code"), python_blocks(), ids=lambda value: str(value)[:30])
def test_python_compiles_and_runs(page: str, runnable: bool, code: str, reader: Path) -> None:
    compiled = compile(code, page, "exec")
    if runnable:
        exec(compiled, {"__name__": "__main__"})


def test_readme_is_short_and_has_six_lines_of_python() -> None:
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 150
    assert any(page == "README.md" and runnable for page, runnable, _ in python_blocks())
    assert "A study that is not flagged is not a normal study" in " ".join(readme.split())


@pytest.mark.parametrize("page", PAGES)
def test_pages_speak_of_nothing_that_a_clone_lacks(page: str) -> None:
    assert not re.search(r"\.\./shared|DESIGN", PAGES[page])
    for folder in (ROOT, Path.home()):
        assert f"{folder}/" not in PAGES[page], "a path of the machine that wrote it"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("CHANGELOG.md", "CONTRIBUTING.md")])
def test_normal_is_said_of_studies_only_to_deny_it(page: str) -> None:
    text = " ".join(PAGES[page].split())
    assert len(re.findall(r"\bnormal\b", text)) == len(re.findall(r"not a normal study", text))


def test_every_page_of_docs_is_linked_from_readme_and_starts_with_a_question() -> None:
    for page, text in PAGES.items():
        if page.startswith("docs/"):
            assert f"({page})" in PAGES["README.md"], page
            assert text.splitlines()[0].startswith("# "), page


def test_results_names_every_column() -> None:
    page = PAGES["docs/results.md"]
    for column in (*SLICE_COLUMNS, *STUDY_COLUMNS, *SERIES_COLUMNS, STATION, *LAST_COLUMNS):
        assert f"`{column}`" in page, column


def test_bundle_format_names_every_field_of_the_spec() -> None:
    page = PAGES["docs/bundle-format.md"]
    for field in fields(PreprocessSpec):
        assert f"`{field.name}`" in page, field.name


def test_assumptions_names_every_field_of_the_spec() -> None:
    for field in fields(PreprocessSpec):
        assert f"`{field.name}`" in PAGES["docs/assumptions.md"], field.name


def test_targets_names_every_target() -> None:
    for name in TARGETS:
        assert f"| `{name}` |" in PAGES["docs/targets.md"], name


@cache
def code_strings() -> list[str]:
    """Every string of the code, with … for what an f-string fills in."""
    strings: list[str] = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values]
                    strings.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    strings.append(node.value)
    return strings


def quoted_messages() -> list[str]:
    """The messages in the headings of troubleshooting's entries."""
    headings = re.findall(r"^### (.*)$", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    return [part.strip("`") for heading in headings for part in re.split(r"(?<=`) · (?=`)", heading)]


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_messages_are_in_the_code(message: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
    assert any(pattern.search(text) for text in code_strings()), message

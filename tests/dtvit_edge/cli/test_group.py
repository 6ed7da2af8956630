"""What every command has: help that reads well, `-v` and `-q` at both places, an end in words when interrupted."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import terminal
from dtvit_edge.cli.commands import RESUMABLE, WORKSTATION_COMMANDS, cli, main
from tests.support.dicom_files import series

COMMANDS = sorted({*cli.commands, *WORKSTATION_COMMANDS})
NO_VERB = ("Of", "The", "A", "Only", "Where", "Never", "That", "One", "On", "What")
INSTALL = "\n  pip install --upgrade 'pip>=25.1'\n  pip install -e . --group workstation\n"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    terminal.setup_logging(verbose=False, quiet=False)


def command_named(name: str) -> click.Command:
    return cli.load(name) if name in WORKSTATION_COMMANDS else cli.commands[name]  # type: ignore[attr-defined]


def leaves(command: click.Command) -> list[click.Command]:
    """A command, and every one below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [command, *(leaf for each in below for leaf in leaves(each))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_the_verbosity_in_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in leaves(command_named(name)):
        words = [name] if command.name == name else [name, str(command.name)]
        assert main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        assert "-v, --verbose" in text and "-q, --quiet" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_the_list_of_commands_fits_80_columns_and_cuts_no_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    _, runtime, checkout = re.split(r"Commands.*:\n", capsys.readouterr().out)
    for part, names in ((runtime, cli.commands), (checkout, WORKSTATION_COMMANDS)):
        lines = part.strip().splitlines()
        assert [line.split()[0] for line in lines] == sorted(names)
        assert all(len(line) <= 80 and re.search(r"[a-z]\.$", line) for line in lines)


@pytest.mark.parametrize("name", [*sorted(cli.commands), "export"])
def test_every_option_says_what_it_does_in_a_sentence(name: str) -> None:
    for parameter in command_named(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"
            first = parameter.help.split()[0]
            assert first[0].isupper() and first not in ("Of", "The", "Only", "Where", "Never", "That", "One"), (
                parameter.help
            )
            assert "." in parameter.help, parameter.help


@pytest.mark.parametrize(
    ("before", "after", "level", "quiet"),
    [
        ([], [], logging.INFO, False),
        ([], ["-v"], logging.DEBUG, False),
        (["-v"], [], logging.DEBUG, False),
        ([], ["--quiet"], logging.WARNING, True),
        (["-q"], [], logging.WARNING, True),
        (["-q"], ["-v"], logging.DEBUG, False),
        (["-v"], ["-q"], logging.DEBUG, False),
        (["-q"], ["-q"], logging.WARNING, True),
    ],
)
def test_verbosity_is_the_stronger_of_what_stands_before_and_after(
    before: list[str], after: list[str], level: int, quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*before, "doctor", "--json", *after]) == 0
    assert logging.getLogger("dtvit_edge").level == level
    assert terminal._quiet is quiet


@pytest.mark.parametrize("name", ["bench"])
def test_commands_below_a_mounted_one_take_it_too(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "report", str(tmp_path / "absent"), "-o", str(tmp_path / "out"), "-v"]) == 2
    assert "absent: no records" in capsys.readouterr().err
    assert logging.getLogger("dtvit_edge").level == logging.DEBUG


def test_only_commands_that_continue_say_so_when_interrupted(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    from dtvit_edge import backends

    monkeypatch.setattr(backends, "availability", interrupted)
    assert main(["verify", str(tiny_bundle.path)]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_an_interrupt_that_an_import_wraps_is_one_all_the_same(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    from dtvit_edge import backends

    monkeypatch.setattr(backends, "availability", interrupted)
    assert main(["verify", str(tiny_bundle.path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("name", ["train"])
def test_a_training_continues_and_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_named(name), "callback", interrupted)
    assert main([name, "phantoms:1", "-o", str(tmp_path), "--training", "synthetic"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command continues where it stopped\n"


def test_what_continues_is_among_the_commands() -> None:
    assert set(COMMANDS) >= RESUMABLE


@pytest.mark.parametrize("name", sorted(WORKSTATION_COMMANDS))
def test_a_workstation_command_of_a_wheel_says_where_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = WORKSTATION_COMMANDS[name][0].split(".")[0]
    for module in [module for module in sys.modules if module.split(".")[0] == room]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent(room), *sys.meta_path])
    assert main([name, "x", "-o", "y"]) == 2
    said = capsys.readouterr().err
    assert f"`dtvit-edge {name}` comes with a checkout that is installed with -e, not with the wheel" in said
    assert f"({room} is not installed)" in said and INSTALL in said


@pytest.mark.parametrize("name", ["export"])
def test_a_checkout_without_the_workstations_packages_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_torch(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(command_named(name), "callback", without_torch)
    assert main([name, "x", "-o", str(tmp_path / "y.dtvit")]) == 2
    assert "(torch is not installed)" in (said := capsys.readouterr().err) and INSTALL in said


@pytest.mark.parametrize("name", ["export"])
def test_a_module_of_ours_that_is_missing_is_an_internal_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'dtvit_edge.gone'", name="dtvit_edge.gone")

    monkeypatch.setattr(command_named(name), "callback", broken)
    assert main(["-v", name, "x", "-o", str(tmp_path / "y.dtvit")]) == 6
    assert "internal error" in capsys.readouterr().err


def test_a_score_takes_verbosity_after_its_options(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path / "in", [0, 5])
    for option, said, level in (("-q", "", logging.WARNING), ("-v", "INFO backend", logging.DEBUG)):
        out = str(tmp_path / option)
        assert main(["score", str(tiny_bundle.path), str(tmp_path / "in"), "-o", out, option]) == 0
        text = capsys.readouterr().err
        assert said in text and bool(text) == bool(said)
        assert logging.getLogger("dtvit_edge").level == level


class Absent:
    """An importer that has nothing of one room."""

    def __init__(self, room: str) -> None:
        self.room = room

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == self.room:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

"""What is said of an error that nobody raised on purpose: what to report, without a word of the user's data.

Values of paths stay out of the message, and so does the error's own text, which may quote a path or a file's values.
The traceback goes to a file that stays on this machine.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import dtvit_edge
from dtvit_edge import backends
from dtvit_edge.cli import terminal
from dtvit_edge.cli.version import NAME, version
from dtvit_edge.environment import DEVICE_PACKAGES, RUNTIME_PACKAGES, machine, package_versions

EXIT_STATUS = 6
HIDDEN = "..."
# Reported where they are installed; the commands of a checkout use them.
_WORKSTATION = ("torch", "timm", "onnx")
_HOME = Path(dtvit_edge.__file__).parents[1]
_ROOMS = ("dtvit_edge", "export", "evaluation", "training", "calibration", "benchmarks")


def report(error: BaseException, arguments: Sequence[str], command: click.Command) -> int:
    """Tell stderr what to report.

    Args:
        arguments: of the command line, without the program's name; command: the group that was to run them.

    Returns:
        The exit status.
    """
    versions = package_versions(RUNTIME_PACKAGES + DEVICE_PACKAGES + _WORKSTATION)
    versions = {NAME: version()} | {name: number for name, number in versions.items() if name != NAME}
    here = machine()
    lines = (
        "internal error: dtvit-edge itself went wrong. Please report these lines:",
        f"  error     {_named(error)}, {_place(error)}",
        f"  command   {' '.join(['dtvit-edge', *_words(arguments, command)])}",
        f"  versions  {', '.join(f'{name} {number}' for name, number in versions.items())}",
        f"  machine   Python {here['python']}, {here['system']}, {here['architecture']}, {here['processor']}",
    )
    terminal.echo("\n".join(lines), err=True)
    text = "".join(traceback.format_exception(error))
    if not terminal.is_verbose() and (file := _kept(text)) is not None:
        terminal.echo(f"The traceback is in {file}. It may name your files: read it before you send it.", err=True)
    else:
        terminal.echo(f"The traceback may name your files: read it before you send it.\n{text}", err=True, nl=False)
    return EXIT_STATUS


def _named(error: BaseException) -> str:
    """The kind of error; of one of the operating system also its words, which hold no path."""
    words = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return type(error).__name__ + words


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_HOME) and path.relative_to(_HOME).parts[0] in _ROOMS:
            return f"{path.relative_to(_HOME).as_posix()} line {frame.lineno}"
    return "outside its own code"


def _kept(text: str) -> Path | None:
    """The traceback's file, for this user's eyes only; None where none can be written."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="dtvit-edge-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return None
    return Path(name)


def _words(arguments: Sequence[str], command: click.Command) -> Iterator[str]:
    """The command line with every value hidden that is not one of the program's own words or a number."""
    options = dict(_options(command))
    waiting: click.Option | None = None
    for word in arguments:
        if waiting is not None:
            yield _shown(word, waiting)
            waiting = None
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            option = options.get(name)
            yield f"{name}={_shown(value, option)}" if equals else name
            waiting = None if equals or option is None or option.is_flag else option
        elif word.startswith("-") and word != "-":
            option = options.get(word[:2])
            yield word[:2] + (HIDDEN if len(word) > 2 else "")
            waiting = None if len(word) > 2 or option is None or option.is_flag else option
        elif isinstance(command, click.Group) and (below := _below(command, word)) is not None:
            command = below
            options |= dict(_options(command))
            yield word
        else:
            yield HIDDEN


def _shown(value: str, option: click.Option | None) -> str:
    """An option's value where it is a number, a choice or a backend's name: nothing that a user named."""
    if option is None:
        return HIDDEN
    if isinstance(option.type, click.Choice):
        known = value in option.type.choices
    elif isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)):
        known = value.replace(".", "", 1).lstrip("+-").isdigit()
    else:
        known = value in (backends.AUTO, *backends.NAMES)
    return value if known else HIDDEN


def _below(group: click.Group, name: str) -> click.Command | None:
    if name in getattr(group, "mounted", ()):
        try:
            return group.load(name)  # type: ignore[attr-defined]
        except Exception:
            return click.Command(name)
    return group.commands.get(name)


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """Every option of a command and of the ones below it, by each of its names."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from ((name, parameter) for name in (*parameter.opts, *parameter.secondary_opts))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _options(below)

"""The line that repeats a measurement: bundles and weights by their names, patients' files by what they are."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from dtvit_edge.cli.option_set import FilePath

# Parameters whose values a record names by what they are: files of patients, and where the results went.
_PRIVATE = {
    "also": "FOLDER",
    "boxes": "BOXES",
    "calibration_slices": "SLICES",
    "data": "SLICES",
    "file": "SLICE",
    "folder": "FOLDER",
    "other": "SLICES",
    "out": "OUT",
    "record": "RECORDS",
    "studies": "STUDIES",
    "study": "STUDY",
    "slices": "SLICES",
    "test_slices": "SLICES",
}
# Parameters whose values are texts of the form NAME=FILE.
_NAMED_FILES = frozenset({"inits"})


class RecordOption(click.Option):
    """An option that the line does without."""


class RecordFile(RecordOption):
    """The file of records that a command appends to: one that cannot be written is refused before it measures."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        """As `click.Option`, with a path to a file."""
        super().__init__(*words, **{"type": FilePath(dir_okay=False), **settings})

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """See `click.Parameter`; a path that a record could not be appended to is a usage error (status 2)."""
        path = super().process_value(ctx, value)
        if isinstance(path, Path) and (why := _not_writable(path)):
            raise click.BadParameter(why, ctx, self)
        return path


def command_line(context: click.Context, *words: str) -> str:
    """The line of a running command.

    Args:
        words: that it begins with.
    """
    line = list(words)
    for parameter in context.command.params:
        name = parameter.name or ""
        value: Any = context.params.get(name)
        if isinstance(parameter, RecordOption) or getattr(parameter, "hidden", False):
            continue
        if value is None or value == () or (value == parameter.get_default(context) and not parameter.required):
            continue
        option = [max(parameter.opts, key=len)] if isinstance(parameter, click.Option) else []
        if value is False and parameter.secondary_opts:
            line.append(max(parameter.secondary_opts, key=len))
            continue
        for one in value if isinstance(value, tuple) else (value,):
            line += option if one is True else [*option, _printable(name, one)]
    return shlex.join(line)


def _not_writable(path: Path) -> str | None:
    """Why nothing could be appended to a file that may not be there yet; leaves no trace."""
    try:
        if path.is_symlink():
            return f"{path}: a link; name the file itself"
        if path.exists():
            return None if path.is_file() and os.access(path, os.W_OK) else f"{path} cannot be written"
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:  # such as a name that is too long
        return f"{path} cannot be written: {error.strerror}"
    return None if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written"


def _printable(name: str, value: object) -> str:
    if name in _PRIVATE and not isinstance(value, int) and not str(value).startswith("phantoms:"):
        return _PRIVATE[name]
    if name in _NAMED_FILES:
        key, equals, file = str(value).partition("=")
        return f"{key}{equals}{Path(file).name}"
    return value.name if isinstance(value, Path) else str(value)

"""The terminal: logs and progress on stderr, tables on stdout; the one place that writes to it, escaped."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from dtvit_edge import escaping

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# A pipe has no width: wide enough that no UID is folded.
PIPE_WIDTH = 200
# In a log a stage says how far it is after each tenth, but not more often than this, and after this long in any case.
LEAST_SECONDS, MOST_SECONDS = 5.0, 60.0

_quiet = False


def setup_logging(*, verbose: bool, quiet: bool) -> None:
    """Log to stderr: warnings, the choice of backend, and with `verbose` every slice that is not scored.

    `verbose` is the stronger of the two: with both, nothing is kept quiet.
    """
    global _quiet
    _quiet = quiet and not verbose
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote values: names, ids, dates
    logger = logging.getLogger("dtvit_edge")
    logger.handlers = [_EchoHandler()]
    logger.handlers[0].setFormatter(_OneLine("%(levelname)s %(message)s"))
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


def is_verbose() -> bool:
    """Whether `-v` was given."""
    return logging.getLogger("dtvit_edge").isEnabledFor(logging.DEBUG)


class _EchoHandler(logging.Handler):
    """Writes to whatever stderr is at that moment, so that a progress bar can take it over."""

    def emit(self, record: logging.LogRecord) -> None:
        echo(self.format(record), err=True)


class _OneLine(logging.Formatter):
    """A record is one line, whatever its values hold; a traceback follows it, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaping.one_line(super().formatMessage(record))


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Write words to stdout or stderr; every command writes its words through this.

    Control characters are spelled, and lines after the first are indented; `echo_lines` is for those that are not.
    """
    click.echo(escaping.lines(str(text)), err=err, nl=nl)


def echo_lines(text: str, *, err: bool = False) -> None:
    """Write a text whose lines are meant to begin where they do: JSON, a summary. Control characters are spelled."""
    click.echo("\n".join(escaping.one_line(line) for line in text.rstrip("\n").split("\n")), err=err)


@contextmanager
def progress(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr where that is a terminal, else lines of a log; see `dtvit_edge.progress.Progress`."""
    if _quiet:  # a bar that is merely disabled still prints an empty line at its end
        yield lambda steps: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LoggedStage(stage, total).advance
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    described = TextColumn("{task.description}", markup=False)
    columns = (described, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(escaping.one_line(stage), total=total)
        yield lambda steps: bar.advance(task, steps)


class _LoggedStage:
    """A stage whose progress goes to a log: a line at its beginning, then now and then one."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total = stage, total
        self.done = self.tenths = 0
        self.said_at = time.monotonic()
        echo(f"{stage}: {total}", err=True)

    def advance(self, steps: int) -> None:
        self.done += steps
        waited = time.monotonic() - self.said_at
        tenths = self.done * 10 // max(self.total, 1)
        if waited >= MOST_SECONDS or (tenths > self.tenths and waited >= LEAST_SECONDS):
            echo(f"{self.stage}: {self.done} of {self.total}", err=True)
            self.tenths, self.said_at = tenths, time.monotonic()


def rows(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A table of text, for commands that have nothing else to say."""
    filled = table(*columns)
    for row in cells:
        filled.add_row(*row)
    show(filled)


def pairs(named: Iterable[tuple[str, str]], title: str = "") -> None:
    """A table of names and values."""
    filled = table(title, "")
    for name, value in named:
        filled.add_row(name, value)
    show(filled)


def uid_rows(uid_columns: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """A table whose first columns are UIDs, of which none is ever broken.

    Where a terminal is too narrow for one line a row, the UIDs stand on lines of their own above the rest.

    Args:
        cells: rows of `len(uid_columns) + len(columns)` texts.
    """
    cells = [[escaping.one_line(cell) for cell in row] for row in cells]
    screen = console()
    whole = table(*uid_columns, *columns)
    for column in whole.columns[: len(uid_columns)]:
        column.no_wrap, column.overflow = True, "ignore"
    for row in cells:
        whole.add_row(*row)
    unlimited = screen.options.update(width=10_000)
    if not screen.is_terminal or screen.measure(whole, options=unlimited).maximum <= screen.width:
        show(whole)
        return
    indent = 2
    rest = [columns, *(row[len(uid_columns) :] for row in cells)]
    widths = [max(map(len, column)) for column in zip(*rest, strict=True)]
    for i, row in enumerate([(*uid_columns, *columns), *cells]):
        for uid in row[: len(uid_columns)]:
            echo(uid)
        for line in _lines(row[len(uid_columns) :], widths, screen.width - indent):
            echo(" " * indent + line)
        if i == 0:
            echo("-" * screen.width)
    echo()


def _lines(cells: Sequence[str], widths: Sequence[int], room: int) -> list[str]:
    """Cells side by side in columns; what is too long for the line begins another one."""
    lines = [""]
    for text, width in zip(cells, widths, strict=True):
        if lines[-1] and len(lines[-1]) + len(text) > room:
            lines.append("")
        lines[-1] += text.ljust(width) + "  "
    return [line.rstrip() for line in lines if line.strip()]


def table(*columns: str) -> Table:
    """An empty table in the style of this command line; without names it has no header.

    Its cells are text: no markup, each on one line.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    class Rows(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(Text(escaping.one_line(cell)) for cell in cells), **options)

    empty = Rows(box=box.SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
    for column in columns:
        empty.add_column(column, overflow="fold")
    return empty


def load_tables() -> None:
    """Import what draws tables, for a time in which something else is waited for."""
    table()
    console()


def show(renderable: Any) -> None:
    """Print to stdout, folded at the terminal's width."""
    console().print(renderable)


def ask_passphrase() -> str | None:
    """What somebody types, unseen; None where no terminal is there to type on."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    typed: str = click.prompt("Passphrase of the key", hide_input=True, default="", show_default=False, err=True)
    return typed


def console() -> Console:
    """Where results go."""
    from rich.console import Console

    class Stdout(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would end the program with status 1, which means something else here

    return Stdout(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def reader_gone() -> bool:
    """Whether what read stdout or stderr has closed it, as `head` does; both then lead nowhere.

    Otherwise the interpreter would complain once more when it flushes them at the end.
    """
    gone = False
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            number = stream.fileno()  # type: ignore[union-attr]
            poll = select.poll()
            poll.register(number, select.POLLOUT)
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
                gone = True
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
    return gone

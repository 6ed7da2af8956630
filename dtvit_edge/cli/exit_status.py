"""What becomes of a command: its exit status, and the words on stderr that go with it.

| status | meaning |
|---|---|
| 0 | done |
| 1 | a check ran to its end and said no |
| 2 | wrong usage, a bundle that cannot be used, or a machine that lacks something |
| 3, 4 | `score`: some slices were refused or failed; none was scored |
| 5 | the device failed, or the disk |
| 6 | an internal error: any exception that nobody raised on purpose |
| 130 | interrupted (128 + SIGINT), also by SIGTERM or SIGHUP |
| 141 | what reads the output has gone (128 + SIGPIPE), as after `| head` |
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
from contextlib import suppress

import click

from dtvit_edge.cli import terminal
from dtvit_edge.cli.group import Interrupted, PipeBroken
from dtvit_edge.errors import ConfigError, DeviceFault, DtvitError

# What the disk says of itself, and what a path or its permissions are to blame for; neither is this program's error.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ESTALE})
_PATH = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)
INTERRUPTED = 130
READER_GONE = 141


def run(group: click.Group, arguments: list[str]) -> int:
    """Run a command line; the only place that catches the base error. Returns the exit status; nothing is raised."""
    try:
        return _run(group, arguments)
    except BrokenPipeError as error:  # while an error's message was written
        return _unforeseen(error, group, arguments)


def _run(group: click.Group, arguments: list[str]) -> int:
    try:
        group.main(args=arguments, prog_name="dtvit-edge", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(file=said)
        # click begins lines of a list with a tab, which would be spelled as what a file's name may hold is.
        terminal.echo_lines(re.sub(r"(?m)^\t", "  ", said.getvalue()), err=True)
        return error.exit_code
    except Interrupted as error:
        with suppress(OSError):  # a terminal that has hung up takes no more words
            terminal.echo("interrupted" + ("; the same command continues where it stopped" * error.resumable), err=True)
        return INTERRUPTED
    except click.Abort as error:
        # click makes one of an EOFError as well, which is no Ctrl-C: nothing here asks for input.
        if isinstance(error.__cause__, EOFError):
            return _unforeseen(error.__cause__, group, arguments)
        terminal.echo("interrupted", err=True)
        return INTERRUPTED
    except DtvitError as error:
        logging.getLogger(__name__).debug("", exc_info=True)
        terminal.echo(f"error: {error}", err=True)
        return error.exit_status
    except SystemExit as error:
        return int(error.code or 0)
    except PipeBroken as error:
        return _unforeseen(error.__cause__ or error, group, arguments)
    except OSError as error:
        if error.errno in _DISK:
            terminal.echo(f"error: the disk failed: {error.strerror}", err=True)
            return DeviceFault.exit_status
        if error.errno not in _PATH or error.filename is None:
            return _unforeseen(error, group, arguments)
        # Folder names can carry patients' names; the last part says most often which path is meant.
        name = os.path.basename(os.fsdecode(error.filename))
        words = f"a file or folder cannot be used: {error.strerror} (the last part of its path: {name!r})"
        terminal.echo(f"error: {words}", err=True)
        return ConfigError.exit_status
    except Exception as error:
        return _unforeseen(error, group, arguments)
    return 0


def _unforeseen(error: BaseException, group: click.Group, arguments: list[str]) -> int:
    """Status 6 with what to report; nothing is said, and no fault found, where `| head` has seen enough."""
    from dtvit_edge.cli import internal_error

    if isinstance(error, BrokenPipeError) and terminal.reader_gone():
        return READER_GONE
    return internal_error.report(error, arguments, group)

"""The group behind `dtvit-edge`: mounts commands of the workstation, and gives every command `-v` and `-q`."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from dtvit_edge.cli import terminal
from dtvit_edge.cli.option_set import refuse_empty_texts
from dtvit_edge.errors import MissingDependency

# What installs the commands that only a checkout has.
INSTALL_WORKSTATION = "pip install --upgrade 'pip>=25.1'\n  pip install -e . --group workstation"
# Where in a context the verbosity of the whole line is kept.
_VERBOSE, _QUIET = f"{__name__}.verbose", f"{__name__}.quiet"


class Interrupted(click.Abort):
    """A command was interrupted.

    Attributes:
        resumable: the same command continues where this one stopped.
    """

    def __init__(self, *, resumable: bool) -> None:
        super().__init__()
        self.resumable = resumable


class PipeBroken(Exception):
    """A command met a BrokenPipeError, its cause. As that, click would end the program with status 1."""


class Commands(click.Group):
    """A group that also lists commands which live outside the runtime, and imports one only when it is called.

    Args:
        mounted: name -> (module, attribute, short help).
        resumable: names of the commands that continue where they were interrupted.
    """

    def __init__(
        self, *args: Any, mounted: Mapping[str, tuple[str, str, str]], resumable: Collection[str], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.mounted = mounted
        self.resumable = resumable
        add_verbosity(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return sorted({*super().list_commands(ctx), *self.mounted})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A runtime command; for a workstation one a placeholder that is enough for the list in --help."""
        if name in self.mounted:
            return click.Command(name, short_help=self.mounted[name][2])
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help: what every installation runs, then what a checkout adds."""
        for title, names in (
            ("Commands", super().list_commands(ctx)),
            ("Commands of a checkout (installed with -e, for workstations)", sorted(self.mounted)),
        ):
            listed = [(name, command) for name in names if (command := self.get_command(ctx, name)) is not None]
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(60)) for name, command in listed])

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Take a runtime command into the group."""
        _prepare(cmd)
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is being called: a workstation one is imported here."""
        if args[0] not in self.mounted:
            return super().resolve_command(ctx, args)
        return args[0], self.load(args[0]), args[1:]

    def load(self, name: str) -> click.Command:
        """Import a workstation command.

        Raises:
            MissingDependency: this is no checkout, or one without the workstation's packages.
        """
        module, attribute, _ = self.mounted[name]
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            # A folder of that name that is not ours may lie on the path: then only the module is absent.
            if error.name != module and _is_part_of_a_program(error.name or ""):
                raise
            raise self._not_installed(name, error) from error
        _prepare(command)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse what stands before the command; `--help` and `--version` print here.

        Raises:
            PipeBroken: what they print to has gone.
        """
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError as error:
            raise PipeBroken from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what stopped it is said in terms of that command.

        Raises:
            Interrupted: by Ctrl-C.
            MissingDependency: a workstation command runs on packages that are not here.
            PipeBroken: by a pipe of which the other end has gone.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeBroken from error
        except KeyboardInterrupt as error:
            with suppress(OSError):  # the terminal may have hung up
                terminal.echo(err=True)  # its ^C stands at the beginning of this line
            raise Interrupted(resumable=ctx.invoked_subcommand in self.resumable) from error
        except (click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            name = ctx.invoked_subcommand
            if _while_interrupted(error):
                raise Interrupted(resumable=name in self.resumable) from error
            if not isinstance(error, ModuleNotFoundError):
                raise
            if name is None or name not in self.mounted or _is_part_of_a_program(error.name or ""):
                raise
            raise self._not_installed(name, error) from error

    def _not_installed(self, name: str, error: ModuleNotFoundError) -> MissingDependency:
        return MissingDependency(
            f"`dtvit-edge {name}` comes with a checkout that is installed with -e, not with the wheel "
            f"({error.name} is not installed). In the checkout:\n  {INSTALL_WORKSTATION}"
        )


def _while_interrupted(error: BaseException) -> bool:
    """Whether an error arose from an interrupt, or while one ended the command.

    As from a bar on a terminal that is gone, or from a compiled module that makes an ImportError of it.
    """
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if isinstance(one, KeyboardInterrupt):
            return True
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            todo += [one.__cause__, one.__context__]
    return False


def _is_part_of_a_program(module: str) -> bool:
    """Whether a module that is absent belongs to Python, or to a package of which the rest is there: a fault."""
    top = module.split(".")[0]
    return top in sys.stdlib_module_names or (top != module and top in sys.modules)


def _prepare(command: click.Command) -> None:
    """What every command has in common."""
    add_verbosity(command)
    refuse_empty_texts(command)


def add_verbosity(command: click.Command) -> None:
    """Give a command, and every one below it, `-v` and `-q`: they mean the same before a command as after it."""
    if not any(parameter.name == "verbose" for parameter in command.params):
        command.params += [
            click.Option(
                ["-v", "--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_take_verbosity,
                help="Log more, such as why a file is not scored.",
            ),
            click.Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_take_verbosity,
                help="Log warnings only, and show no progress.",
            ),
        ]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_verbosity(below)


def _take_verbosity(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    """Add what is said at one place of the line to what was said at another; verbose is the stronger."""
    key = _VERBOSE if option.name == "verbose" else _QUIET
    ctx.meta[key] = ctx.meta.get(key, False) or value
    terminal.setup_logging(verbose=ctx.meta.get(_VERBOSE, False), quiet=ctx.meta.get(_QUIET, False))

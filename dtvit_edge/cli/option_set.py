"""Options that several commands have in common, as one decorator."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
# What a command opens its bundle with; its arguments are further ones of `Bundle.open`.
BundleOpener: TypeAlias = "Callable[..., Bundle]"
_EMPTY = "it is empty, as of a variable that is not set"


def option_set(*options: Decorator) -> Decorator:
    """One decorator of several `click.option`s (or other sets), which `--help` lists in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class FiniteRange(click.FloatRange):
    """A range of numbers: click takes `nan` for one in every range, and infinity where there is no end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number.

        Raises:
            BadParameter: it is none in the range.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number in the range {self._describe_range()}.", param, ctx)
        return number


class Text(click.types.StringParamType):
    """A text that says something: nothing asked for is not the same as a variable of the shell that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text.

        Raises:
            BadParameter: it is empty.
        """
        text = super().convert(value, param, ctx)
        if not text:
            self.fail(_EMPTY, param, ctx)
        return text


def refuse_empty_texts(command: click.Command) -> None:
    """Let a command, and every one below it, take no empty text for any of its options and arguments."""
    for parameter in command.params:
        if type(parameter.type) is click.types.StringParamType:
            parameter.type = Text()
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        refuse_empty_texts(below)


class FilePath(click.Path):
    """A path. click takes an empty text for the folder that one is in, and `score` would read whatever lies there."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            BadParameter: the text is empty, or the path not as the checks ask.
        """
        if not os.fspath(value):
            self.fail(f"{_EMPTY}; '.' is the folder that you are in.", param, ctx)
        return super().convert(value, param, ctx)


def _or_none(_: click.Context, __: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...] | None:
    return value or None


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
accept_option = click.option(
    "--accept-engine", "accept_engines", multiple=True, metavar="SHA256",
    help="Trust the engine plan of this digest, which was not built here; may be repeated.",
)  # fmt: skip
device_option = click.option(
    "--device", type=click.IntRange(0), metavar="N", help="Use the GPU that CUDA numbers N.  [default: 0]"
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Compute with N threads, where the backend runs on a CPU."
)
threshold_option = click.option(
    "--threshold", type=FiniteRange(0, 1, min_open=True, max_open=True), metavar="P",
    help="Call P and more positive, slices and studies, in this run.  [default: the bundle's]",
)  # fmt: skip
bundle_argument = click.argument("bundle", type=FilePath())
# Of every command that takes a bundle: which one it has to be, and whose. It takes `expect_digest` and `trust`.
bundle_options = option_set(
    click.option("--expect-digest", metavar="SHA256", help="Refuse the bundle unless its digest is this one."),
    click.option(
        "--trust", multiple=True, callback=_or_none, type=FilePath(), metavar="KEY",
        help="Refuse the bundle unless a key of this file (NAME.pub, of Ed25519) has signed it; may be repeated.",
    ),
)  # fmt: skip


def bundle_opener(command: Callable[..., Any]) -> Callable[..., Any]:
    """`bundle_options` for a command that is given, instead of them, of its bundle and of `accept_option`, a function.

    The function, `open_bundle`, opens the bundle as all of them ask.
    """

    @wraps(command)
    def with_opener(
        *, bundle: Path, expect_digest: str | None, trust: Any, accept_engines: tuple[str, ...] = (), **others: Any
    ) -> Any:
        def open_bundle(**more: Any) -> Bundle:
            from dtvit_edge.bundle import Bundle

            asked = {"expect_digest": expect_digest, "trust": trust, "accept_engines": accept_engines}
            return Bundle.open(bundle, **asked, **more)

        return command(open_bundle=open_bundle, **others)

    return bundle_options(with_opener)


def refuse_given(names: Collection[str], why: str) -> None:
    """Refuse options of the running command that were given and would have no effect.

    Args:
        names: of the command's parameters.
        why: the rest of the sentence, behind the option.

    Raises:
        click.UsageError: with the first of them.
    """
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[-1]} {why}")

"""Options that several commands have in common, as one decorator."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
# Of every command that takes a bundle: which one it has to be, and whose. It takes `expect_digest` and `trust`.
bundle_options = option_set(
    click.option("--expect-digest", metavar="SHA256", help="Refuse the bundle unless its digest is this one."),
    click.option(
        "--trust", multiple=True, callback=_or_none, type=click.Path(path_type=Path), metavar="KEY",
        help="Refuse the bundle unless a key of this file (NAME.pub, of Ed25519) has signed it; may be repeated.",
    ),
)  # fmt: skip


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

"""The options that say what a checkpoint is, for every command that exports one."""

from __future__ import annotations

from typing import Any

import click

from dtvit_edge.cli.option_set import FilePath, option_set
from dtvit_edge.spec import LOCATION_HEAD, TRAINING_STATES, Window, WindowKind


class WindowOption(click.ParamType[Window]):
    """`C,W,KIND`: centre and width in HU and the name of the formula, which is never guessed."""

    name = "C,W,KIND"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Window:
        """Text to a Window; anything else is a usage error."""
        try:
            center, width, kind = str(value).split(",")
            return Window(float(center), float(width), WindowKind(kind.strip().upper()))
        except Exception as error:
            kinds = " or ".join(str(kind) for kind in WindowKind)
            self.fail(f"{value!r} is not centre,width,kind with kind {kinds} ({error})", param, ctx)


# A command takes them by the names of `importing.ImportOptions`' fields, and `expect`.
import_options = option_set(
    click.option(
        "--encoder",
        metavar="NAME",
        help="Name the encoder as timm or torchvision does, where the checkpoint does not show it.",
    ),
    click.option(
        "--training",
        type=click.Choice(TRAINING_STATES),
        help="Say what the weights were trained on, where the checkpoint does not.",
    ),
    click.option(
        "--window",
        "windows",
        type=WindowOption(),
        multiple=True,
        help="Window by centre and width in HU, and by LINEAR or LINEAR_EXACT; "
        "give one window, or three for three channels.",
    ),
    click.option(
        "--untrained-head",
        "untrained_heads",
        type=click.Choice([LOCATION_HEAD]),
        multiple=True,
        help="Say that this head was never trained, where the checkpoint does not; its results are left empty.",
    ),
    click.option(
        "--activation",
        metavar="NAME",
        help="Say what stands between the Linear layers of the heads, which no tensor says: relu, gelu, "
        "gelu_tanh, tanh, silu, leaky_relu or none.",
    ),
    click.option("--ema/--no-ema", default=None, help="Take averaged weights, or plain ones, where both are there."),
    click.option(
        "--import",
        "import_file",
        type=FilePath(),
        metavar="FILE",
        help="Read what a state dict cannot say from FILE, not from an import.toml beside WEIGHTS.",
    ),
    click.option(
        "--model",
        metavar="FILE.py:FACTORY",
        help="Export the module that this function returns (it is given WEIGHTS if it takes an argument). This "
        "RUNS the code in FILE.py.",
    ),
    click.option(
        "--expect",
        type=FilePath(),
        metavar="FILE",
        help="Compare the model with your own outputs for your own images (.npz or a folder), and refuse if they "
        "differ.",
    ),
)

"""The command `dtvit-edge bench`, with `dtvit-edge bench compare` and `dtvit-edge bench report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dtvit_edge.cli.option_set import FilePath, bundle_options
from evaluation.limits import limit_options, split_limits
from evaluation.repeating import RecordFile, command_line

RUN = "run"


class Bench(click.Group):
    """`bench NAME.dtvit` is `bench run NAME.dtvit`; its help has the options of `run` and the other commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name before what is not a command."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """How it is called, with and without a command."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] BUNDLES...")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="   or: ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of `run`, which the group takes as well, then the other commands."""
        self.commands[RUN].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=Bench)
def bench() -> None:
    """Measure BUNDLES on this machine: accuracy first, then latency, throughput, memory and energy.

    A configuration (a backend, a precision, a hint) that fails the gate gets no latency. The report goes to OUT as one
    HTML file, as Markdown with plots, and as records, which `compare` and `report` read. The exit status is 1 where no
    configuration of a bundle passes.
    """


@bench.command(RUN, hidden=True)
@click.argument("bundles", nargs=-1, required=True, type=FilePath())
@click.option(
    "-o",
    "--out",
    required=True,
    type=FilePath(),
    help="Write the report and its records to this folder.",
)
@click.option(
    "--weights",
    multiple=True,
    type=FilePath(),
    help="Take PyTorch on this checkpoint, which a bundle was made from, as its reference.",
)
@click.option(
    "--slices",
    multiple=True,
    metavar="SOURCE",
    help="Measure accuracy on these: a labelled CSV, study folders, or phantoms:STUDIES@SEED (default: phantoms).",
)
@click.option(
    "--calibration-slices",
    multiple=True,
    metavar="SOURCE",
    help="Let peers that quantise take their ranges from those of these slices that gave the bundle's own.",
)
@click.option(
    "--studies",
    multiple=True,
    type=FilePath(),
    help="Score these folders from end to end (default: phantom studies).",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Measure only this backend (default: every one that is installed here).",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME",
    help="Measure only this precision (default: every one that the bundle holds).",
)
@click.option(
    "--hint",
    "hints",
    multiple=True,
    type=click.Choice(["bf16"]),
    help="Measure backends that take this precision hint with it, too.",
)
@click.option("--threads", type=click.IntRange(1), help="Use this many threads for CPU backends and peers.")
@click.option(
    "--peers",
    is_flag=True,
    help="Compare with PyTorch, plain exports, int8 of other tools and plain preprocessing; this needs --weights.",
)
@click.option(
    "--peer", multiple=True, metavar="NAME", help="Compare with this peer only; an unknown name lists them all."
)
@click.option("--layers", is_flag=True, help="Measure the milliseconds of each layer.")
@click.option("--bedside", is_flag=True, help="Time `serve` from a study's last image to its SR in a PACS.")
@click.option(
    "--duration",
    "duration_s",
    default=0.0,
    metavar="SECONDS",
    help="Run the fastest configuration this long, at least 10, and show how it drifts.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Repeat the runs from folder to result this often (default: 5, with --quick 1).",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Take under two minutes: use fewer slices and samples, which allow hardly a percentile.",
)
@limit_options
@click.option("--seed", default=0, show_default=True, help="Seed the bootstraps and the choice of slices.")
@click.option("--record", cls=RecordFile, help="Append the records to this file as well.")
@click.option(
    "--accept-engine", "accept_engines", multiple=True, metavar="SHA256",
    help="Trust the engine plan of this digest, which was not built here; may be repeated.",
)  # fmt: skip
@bundle_options
def run(
    bundles: tuple[Path, ...],
    out: Path,
    quick: bool,
    rounds: int | None,
    peers: bool,
    peer: tuple[str, ...],
    record: Path | None,
    accept_engines: tuple[str, ...],
    expect_digest: str | None,
    trust: tuple[Path, ...] | None,
    **chosen: Any,
) -> None:
    """Measure BUNDLES: accuracy first, then time; what fails the gate gets no latency.

    It writes report.html (one file that loads nothing), report.md, plots and bench.jsonl to OUT. The exit status is 1
    where no configuration of a bundle passes.
    """
    from benchmarks.peers import chosen_peers
    from benchmarks.run import bench as measure
    from benchmarks.settings import FULL, QUICK, Settings
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.cli import render
    from evaluation.records import append

    effort = QUICK if quick else FULL
    limits, chosen = split_limits(chosen)
    settings = Settings(
        effort=replace(effort, rounds=rounds) if rounds else effort,
        peers=chosen_peers(peer, every=peers),
        limits=limits,
        command=command_line(click.get_current_context(), "dtvit-edge", "bench"),
        **chosen,
    )
    opened = [
        Bundle.open(path, expect_digest=expect_digest, accept_engines=accept_engines, trust=trust) for path in bundles
    ]
    records = measure(opened, settings, out, progress=render.progress, say=lambda line: render.echo(line, err=True))
    if record is not None:
        for entry in records:
            append(record, entry)
    _print_summary(out)


@bench.command(short_help="Say what changed between two runs, and whether it is more than noise.")
@click.argument("before", type=FilePath())
@click.argument("after", type=FilePath())
@click.option("--seed", default=0, show_default=True, help="Seed the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(before: Path, after: Path, seed: int, as_json: bool) -> None:
    """Say what changed from run BEFORE to run AFTER (folders, or their bench.jsonl), and whether it is more than noise.

    The exit status is 1 where something got slower or less right.
    """
    from benchmarks.report.compare import compare as compare_runs
    from benchmarks.report.compare import show_comparison
    from dtvit_edge.errors import VerdictError

    comparison = compare_runs(before, after, seed=seed)
    show_comparison(comparison, as_json=as_json)
    if comparison.worse:
        raise VerdictError(f"worse: {', '.join(comparison.worse)}")


@bench.command(short_help="Write the report of a run's records anew.")
@click.argument("records", type=FilePath(dir_okay=False))
@click.option("-o", "--out", required=True, type=FilePath(), help="Write the report to this folder.")
def report(records: Path, out: Path) -> None:
    """Write the report of RECORDS (a bench.jsonl) anew; of several runs by one command it shows the last."""
    from benchmarks.report.report import write_report
    from benchmarks.report.run_view import run_records

    write_report(out, run_records(records))
    _print_summary(out)


def _print_summary(out: Path) -> None:
    """Print the summary, and where the report lies."""
    from benchmarks.report.report import HTML, SUMMARY
    from dtvit_edge.cli import render

    render.echo_lines((out / SUMMARY).read_text(encoding="utf-8"))
    render.echo(out / HTML)

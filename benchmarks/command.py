"""The command `dtvit-edge bench`, and `dtvit-edge bench compare`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

RUN = "run"
# Options whose values a record names by what they are: files of patients, and where the results went.
_PRIVATE = {"--slices": "SLICES", "--studies": "STUDIES", "--out": "OUT", "--record": "RECORDS"}


class Bench(click.Group):
    """`bench NAME.dtvit ...` is `bench run NAME.dtvit ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name before what is not a command."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [RUN, *args]
        return super().parse_args(ctx, args)


@click.group(cls=Bench)
def bench() -> None:
    """Latency, throughput, memory, energy and accuracy of bundles on this machine, as a report.

    `dtvit-edge bench NAME.dtvit -o OUT` measures; `dtvit-edge bench compare A B` says what changed between two runs.
    """


@bench.command(RUN)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Where report and records go.")
@click.option("--weights", multiple=True, type=click.Path(path_type=Path), help="A bundle's checkpoint: the reference.")
@click.option("--slices", multiple=True, help="That judge: a labelled CSV, study folders, or phantoms:STUDIES@SEED.")
@click.option("--studies", multiple=True, type=click.Path(path_type=Path), help="Folders to score from end to end.")
@click.option("--backend", "backends", multiple=True, help="Only this backend (default: every one found here).")
@click.option("--precision", "precisions", multiple=True, help="Only this precision (default: all of the bundle's).")
@click.option(
    "--hint", "hints", multiple=True, type=click.Choice(["bf16"]), help="OpenVINO's, as configurations of their own."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of CPU backends and peers.")
@click.option("--peers", is_flag=True, help="Beside PyTorch, plain exports and plain preprocessing; needs --weights.")
@click.option("--peer", multiple=True, metavar="NAME", help="Only this peer (asked for wrongly, it lists them).")
@click.option("--layers", is_flag=True, help="Milliseconds by layer.")
@click.option(
    "--duration", "duration_s", default=0.0, metavar="SECONDS", help="A sustained run of the fastest configuration."
)
@click.option("--rounds", type=click.IntRange(1), help="Of runs from folder to result.  [default: 5, quick 1]")
@click.option("--quick", is_flag=True, help="Under two minutes: fewer slices and samples, hardly a percentile.")
@click.option("--agreement", default=0.995, show_default=True, help="The gate, as of `calibrate`.")
@click.option("--delta-auc", default=0.002, show_default=True, help="The gate, as of `calibrate`.")
@click.option("--least-slices", default=500, show_default=True, help="The gate, as of `calibrate`.")
@click.option("--seed", default=0, show_default=True, help="Of bootstraps and of the choice of slices.")
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="Append the records here as well.")
@click.option("--expect-digest", metavar="SHA256", help="Refuse any other bundle than this one.")
def run(
    bundles: tuple[Path, ...],
    out: Path,
    quick: bool,
    rounds: int | None,
    peers: bool,
    peer: tuple[str, ...],
    agreement: float,
    delta_auc: float,
    least_slices: int,
    record: Path | None,
    expect_digest: str | None,
    **chosen: Any,
) -> None:
    """Measure BUNDLES: accuracy first, then time; what fails the gate gets no latency.

    Writes report.html (one file, nothing outside it), report.md, pictures and bench.jsonl to OUT. Exit status 1 where
    no configuration of a bundle passed.
    """
    from benchmarks.peers import chosen_peers
    from benchmarks.run import bench as measure
    from benchmarks.settings import FULL, QUICK, Settings
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.cli import render
    from evaluation.gate import Limits
    from evaluation.records import append

    effort = QUICK if quick else FULL
    settings = Settings(
        effort=replace(effort, rounds=rounds) if rounds else effort,
        peers=chosen_peers(peer, every=peers),
        limits=Limits(agreement, delta_auc, least_slices),
        command=command_line(click.get_current_context()),
        **chosen,
    )
    opened = [Bundle.open(path, expect_digest=expect_digest) for path in bundles]
    records = measure(opened, settings, out, progress=render.progress, say=lambda line: click.echo(line, err=True))
    if record is not None:
        for entry in records:
            append(record, entry)
    _print_summary(out)


@bench.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(before: Path, after: Path, seed: int, as_json: bool) -> None:
    """Say what changed from run BEFORE to run AFTER (folders, or their bench.jsonl), and whether it is more than noise.

    Exit status 1 where something got slower or less right.
    """
    from benchmarks.report.compare import compare as compare_runs
    from benchmarks.report.compare import show_comparison
    from dtvit_edge.errors import VerdictError

    comparison = compare_runs(before, after, seed=seed)
    show_comparison(comparison, as_json=as_json)
    if comparison.worse:
        raise VerdictError(f"worse: {', '.join(comparison.worse)}")


@bench.command()
@click.argument("records", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Where the report goes.")
def report(records: Path, out: Path) -> None:
    """Write the report of RECORDS (a bench.jsonl) anew; of several runs by one command the last."""
    from benchmarks.report.report import write_report
    from benchmarks.results import names
    from dtvit_edge.errors import ConfigError
    from evaluation.records import read

    run_records = (
        [record for record in read(records) if record.what.startswith(names.PREFIX)] if records.is_file() else []
    )
    if not run_records:
        raise ConfigError(f"{records}: no records of a run of `dtvit-edge bench`")
    write_report(out, run_records)
    _print_summary(out)


def command_line(context: click.Context) -> str:
    """The line that repeats this run: bundles and weights by their names, patients' files by what they are."""
    words = ["dtvit-edge", "bench"]
    command = context.command
    for parameter in command.params:
        value: Any = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            words += [path.name for path in value]
            continue
        name = max(parameter.opts, key=len)
        if value is None or value == parameter.get_default(context) or value == ():
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [name] if one is True else [name, _printable(name, one)]
    return shlex.join(words)


def _print_summary(out: Path) -> None:
    """The summary, and where the report lies."""
    from benchmarks.report.report import HTML, SUMMARY

    click.echo((out / SUMMARY).read_text(encoding="utf-8"), nl=False)
    click.echo(out / HTML)


def _printable(name: str, value: object) -> str:
    if name in _PRIVATE and not str(value).startswith("phantoms:"):
        return _PRIVATE[name]
    return value.name if isinstance(value, Path) else str(value)

"""The command `dtvit-edge report`, and what `score --report` does of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath, accept_option, bundle_options, json_option, refuse_given

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.scoring.executor import Executor
    from dtvit_edge.scoring.run import RunReport

report_option = click.option(
    "--report", "with_report", is_flag=True,
    help="Write OUT/report/index.html as well: a page a study, with pictures and evidence maps.",
)  # fmt: skip


@click.command(short_help="Make the pages of a finished run.")
@click.argument("out", type=FilePath())
@click.argument("studies", nargs=-1, required=True, type=FilePath())
@click.option("--bundle", type=FilePath(), metavar="BUNDLE",
              help="Ask the bundle that answered where hiding changes its answer.  [default: no maps]")  # fmt: skip
@accept_option
@bundle_options
@json_option
def report(
    out: Path,
    studies: tuple[Path, ...],
    bundle: Path | None,
    accept_engines: tuple[str, ...],
    expect_digest: str | None,
    trust: tuple[Path, ...] | None,
    as_json: bool,
) -> None:
    """Make the pages of the finished run in OUT, whose files lie below STUDIES.

    Writes OUT/report/index.html and one file a study; they load nothing and run nothing. The results stay as they are.
    """
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.report.write import write_report

    if bundle is None:
        refuse_given({"accept_engines", "expect_digest", "trust"}, "goes with --bundle")
        opened = None
    else:
        opened = Bundle.open(bundle, expect_digest=expect_digest, accept_engines=accept_engines, trust=trust)
    written = write_report(out, studies, opened, progress=render.progress)
    if as_json:
        render.echo_lines(json.dumps(asdict(written) | {"index": str(written.index)}, indent=1))
    else:
        render.echo(f"{written.studies} pages, {written.maps} evidence maps")
        render.echo(written.index)


def require_templates() -> None:
    """Ask for what reports are made with, before a run begins.

    Raises:
        MissingDependency: it is not installed.
    """
    from dtvit_edge.report.templates import require

    require()


def with_pages(
    done: RunReport,
    bundle: Bundle,
    folders: tuple[Path, ...],
    out: Path,
    *,
    wanted: bool,
    executor: Executor | None = None,
) -> RunReport:
    """A run's report with its pages among the files; where none are wanted, those of other results go.

    Args:
        executor: the one that answered, where it is still open.

    Raises:
        DeviceFault, DiskFault: the pages could not be made; the results are whole.
    """
    if not wanted:
        from dtvit_edge.report.files import remove_stale

        remove_stale(out)
        return done
    from dtvit_edge.report.write import write_report

    written = write_report(out, folders, bundle, plan=done.plan, executor=executor, progress=render.progress)
    return replace(done, files=(*done.files, written.index))

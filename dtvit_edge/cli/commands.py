"""The command line: a command parses, builds one config, calls one function and prints.

Results go to stdout, progress and logs to stderr. Heavy imports happen inside the commands. Workstation commands live
outside the runtime and are mounted by name; one that is absent says what to install.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dtvit_edge.cli import exit_status, render
from dtvit_edge.cli.build_command import build
from dtvit_edge.cli.cluster_options import asked_of_ray, ray_options, shard_option
from dtvit_edge.cli.group import Commands
from dtvit_edge.cli.merge_command import merge
from dtvit_edge.cli.option_set import (
    BundleOpener,
    FilePath,
    FiniteRange,
    accept_option,
    bundle_argument,
    bundle_opener,
    device_option,
    json_option,
    refuse_given,
    threads_option,
    threshold_option,
)
from dtvit_edge.cli.pacs_commands import replay, serve, sr
from dtvit_edge.cli.report_command import report, report_option, require_templates, with_pages
from dtvit_edge.cli.sign_command import sign
from dtvit_edge.cli.triton_command import triton
from dtvit_edge.cli.tune_command import tune
from dtvit_edge.cli.version import print_version
from dtvit_edge.cli.view_command import view
from dtvit_edge.errors import VerdictError
from dtvit_edge.precisions import DEVICE_PRECISIONS
from dtvit_edge.targets.table import TARGETS

if TYPE_CHECKING:
    from dtvit_edge.scoring.executor import Executor
    from dtvit_edge.scoring.shards import Shard

# Commands that live outside the runtime: name -> (module, attribute, short help).
WORKSTATION_COMMANDS = {
    "bench": ("benchmarks.command", "bench", "Measure accuracy and time on this machine."),
    "calibrate": ("calibration.command", "calibrate", "Add int8 and fp8 to a bundle, if the gate agrees."),
    "deploy": ("calibration.deploy_command", "deploy", "Do all that this machine can, from weights on."),
    "export": ("export.command", "export", "Turn a checkpoint into a bundle, parity proved."),
    "threshold": ("evaluation.command", "threshold", "Tune a bundle's threshold on labels."),
    "train": ("training.command", "train", "Train a model on labelled slices."),
    "evaluate": ("training.command", "evaluate", "Make tables and figures of trained models."),
}
# Interrupted, the same command continues where it stopped.
RESUMABLE = frozenset({"score", "train", "deploy"})


@click.group(
    cls=Commands,
    mounted=WORKSTATION_COMMANDS,
    resumable=RESUMABLE,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version,
              help="Show the version and exit.")  # fmt: skip
def cli() -> None:
    """Score intracerebral haemorrhage on head CT, on the device.

    A study that is not flagged is not a normal study. Research use only, not a medical device.

    Exit status: 0 done; 1 a check ran and said no; 2 wrong usage, bundle or machine; 3 some slices refused or failed; 4
    no slice scored; 5 the device or disk failed; 6 internal error; 130 interrupted.
    """


cli.add_command(build)
cli.add_command(merge)
cli.add_command(replay)
cli.add_command(report)
cli.add_command(serve)
cli.add_command(sign)
cli.add_command(sr)
cli.add_command(triton)
cli.add_command(tune)
cli.add_command(view)


@cli.command(short_help="Score every study below some folders.")
@bundle_argument
@click.argument("folders", nargs=-1, required=True, type=FilePath())
@click.option("-o", "--out", type=FilePath(), metavar="OUT", help="Write the results to this folder.")
@click.option("--overwrite", is_flag=True, help="Replace the results of another run.")
@click.option("--watch", "seconds", type=FiniteRange(0.1, 86400), metavar="SECONDS",
              help="Go on until interrupted: score files that are the same in two looks, SECONDS apart.")  # fmt: skip
@click.option("--identify", is_flag=True,
              help="Add AccessionNumber, StudyDate and the study's folder to studies.csv, and the station's name to "
              "series.csv.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List what would be scored; write nothing.")
@report_option
@click.option("--any-series", is_flag=True, help="Score unsuitable series as well, and say so in the results.")
@click.option("--keep-all", is_flag=True, help="Score slices with no brain in view as well.")
@click.option("--backend", default="auto", show_default=True, metavar="NAME",
              help="Choose the backend: auto, or a name that `doctor` lists.")  # fmt: skip
@click.option("--precision", default="auto", show_default=True, metavar="NAME",
              help="Choose the precision of the model or engine; `inspect` lists those of a bundle. With auto a new "
              "OUT takes the choice of `tune`, fp32 without one, and an OUT that was begun keeps its own.")  # fmt: skip
@click.option("--hint", type=click.Choice(["f32", "bf16"]), help="Let OpenVINO compute in this type.  [default: f32]")
@click.option("--batch", type=click.IntRange(1), metavar="N",
              help="Give the model N slices at once.  [default: what suits the backend]")  # fmt: skip
@threads_option
@device_option
@threshold_option
@click.option("--workers", type=click.IntRange(1), metavar="N",
              help="Read and decode with N threads.  [default: one a core, up to 8]")  # fmt: skip
@click.option("--reader", default="auto", show_default=True, type=click.Choice(["auto", "pydicom"]),
              help="Read every file with pydicom, or (auto) the common kinds with a faster reader.")  # fmt: skip
@click.option("--deterministic", is_flag=True, help="Make the same batches, hence the same bytes, in every GPU run.")
@shard_option
@ray_options
@accept_option
@bundle_opener
@json_option
def score(
    open_bundle: BundleOpener,
    folders: tuple[Path, ...],
    out: Path | None,
    overwrite: bool,
    seconds: float | None,
    identify: bool,
    dry_run: bool,
    with_report: bool,
    shard: Shard | None,
    ray: str | None,
    actors: int | None,
    mixed: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Score every study below FOLDERS with BUNDLE.

    Writes slices.csv, studies.csv, series.csv and run.json (last) to OUT, with --report a page a study; the same
    command goes on, and scores what is new since.
    Exit status: 0 every slice scored or skipped, 3 some refused or failed, 4 none scored, 5 the device or disk failed,
    6 internal error.
    """
    from dtvit_edge.scoring.opening import begin_opening, resolve_for
    from dtvit_edge.scoring.options import Options

    opened = open_bundle()
    config = Options(**options)
    if shard is not None:
        refuse_given({"with_report", "seconds"}, "is for a run of all studies, not with --shard")
    asked = asked_of_ray(ray, actors, mixed)
    if with_report:
        require_templates()
    if dry_run:
        from dtvit_edge.scoring.api import headers_of
        from dtvit_edge.scoring.run import NOTHING_SCORED, make_plan

        _, plan = make_plan(folders, out, config, render.progress)
        plan = plan if shard is None else shard.part(plan)
        render.plan(plan, as_json=as_json)
        raise SystemExit(0 if headers_of(plan) else NOTHING_SCORED)
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    common: dict[str, Any] = {"overwrite": overwrite, "identify": identify, "progress": render.progress}
    executor: Executor | None = None
    with ExitStack() as stack:
        if asked is not None:
            from dtvit_edge.cluster.ray_model import open_on_ray

            common["model"] = stack.enter_context(open_on_ray(opened, config, asked, out, overwrite=overwrite))
        elif seconds is None:
            chosen = resolve_for(opened, out, config, overwrite=overwrite)
            common["model"] = opening = stack.enter_context(begin_opening(opened, chosen, last=True))
            if not as_json:
                render.load_tables()
            if with_report:  # the maps are asked of the very model that answers
                from dtvit_edge.scoring.opened import model_from

                common["model"] = model = stack.enter_context(model_from(opened, opening))
                executor = model.executor
        from dtvit_edge.scoring.run import run

        if seconds is not None:
            from dtvit_edge.report.files import remove_report
            from dtvit_edge.scoring.watch import watch

            refuse_given({"as_json", "with_report"}, "is for a run that ends, not with --watch")
            watch(opened, folders, out, config, seconds, begun=lambda: remove_report(out), **common)
        done = run(opened, folders, out, config, shard=shard, **common)
        done = with_pages(done, opened, folders, out, wanted=with_report, executor=executor)
    render.run_report(done, opened, any_series=config.any_series, as_json=as_json)
    raise SystemExit(done.exit_status)


@cli.command(short_help="Check a bundle and its golden slices here.")
@bundle_argument
@click.option("--backend", "names", multiple=True, metavar="NAME",
              help="Run on this backend alone; may be repeated.  [default: all that are here]")  # fmt: skip
@threads_option
@device_option
@accept_option
@bundle_opener
@json_option
def verify(
    open_bundle: BundleOpener, names: tuple[str, ...], threads: int | None, device: int | None, as_json: bool
) -> None:
    """Check BUNDLE's digests, and its golden slices on this machine's backends.

    Exit status 1 where a backend disagrees with the golden slices, or none could be run.
    """
    from dtvit_edge import backends
    from dtvit_edge.scoring.api import Options, open_backend, testable
    from dtvit_edge.scoring.proof import selftest_chain

    opened = open_bundle()
    checked = opened.check_files()
    chosen = names or [name for name, why_not in backends.availability().items() if why_not is None]
    results = []
    for name in [backends.choose(name).name for name in chosen]:
        for precision in testable(opened, name):
            gpu = backends.runs_engines(name)
            options = Options(precision=precision, threads=None if gpu else threads, device=device if gpu else None)
            with open_backend(opened, name, options) as backend:
                results.append(selftest_chain(opened, backend))
    render.selftests(opened, checked, results, as_json=as_json)
    if not results:
        runs = [f"{name} runs {backends.what_runs(name)}" for name in chosen] or ["no backend is here"]
        have = ", ".join(opened.present) or "no model"
        raise VerdictError("; ".join([f"no golden slice was run: this copy has {have}", *runs]))
    if not all(result.passed for result in results):
        raise VerdictError("a backend disagrees with the golden logits")


@cli.command(short_help="Say what a target takes of a bundle.")
@bundle_argument
@click.option("--target", type=click.Choice(list(TARGETS)), required=True, help="Name what is to run BUNDLE.")
@bundle_opener
@json_option
def compat(open_bundle: BundleOpener, target: str, as_json: bool) -> None:
    """Say what a target will refuse, decompose or not fuse of BUNDLE; needs no GPU.

    Exit status 1 where the target can run none of its files.
    """
    from dtvit_edge.targets.compatibility import compat as compatibility

    opened = open_bundle()
    report = compatibility(opened, target)
    render.compatibility(report, as_json=as_json)
    if not report.runs:
        raise VerdictError(f"{target} can run no file of this {'copy of the ' if opened.absent else ''}bundle")


@cli.command(short_help="Show what a bundle holds.")
@bundle_argument
@click.option("--device-files", "target", type=click.Choice(list(TARGETS)),
              help="List the files that this target needs, instead.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(DEVICE_PRECISIONS),
              help="List them for this precision alone; may be repeated.")  # fmt: skip
@click.option("--tensorrt", metavar="VERSION", help="List them for this TensorRT of the target alone.")
@bundle_opener
@json_option
def inspect(
    open_bundle: BundleOpener, target: str | None, precisions: tuple[str, ...], tensorrt: str | None, as_json: bool
) -> None:
    """Show what BUNDLE holds, after checking its digests.

    With --device-files it prints one path a line, from the folder that BUNDLE lies in, for rsync --files-from or tar
    -T; their size goes to stderr.
    """
    from dtvit_edge.targets.device_files import device_files

    if target is None and (precisions or tensorrt):
        raise click.UsageError("--precision and --tensorrt go with --device-files")
    opened = open_bundle()
    opened.check_files()
    if target is not None:
        render.device_files(device_files(opened, target, precisions, tensorrt), as_json=as_json)
    else:
        render.bundle(opened, as_json=as_json)


@cli.command(short_help="Show what this machine has, for a bug report.")
@json_option
def doctor(as_json: bool) -> None:
    """Show versions, backends and decoders of this machine, to paste into a bug report."""
    from dtvit_edge.cli.doctor import examine

    facts = examine()
    if as_json:
        render.echo_lines(json.dumps(asdict(facts), indent=1))
    else:
        render.facts(facts)


@cli.command(short_help="Write synthetic head CT studies.")
@click.argument("out", type=FilePath())
@click.option("--studies", type=click.IntRange(1), default=4, show_default=True, metavar="N", help="Write N studies.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Draw other heads and bleeds; the same seed gives the same files, with the same NumPy.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the phantoms of an earlier call.")
def phantom(out: Path, studies: int, seed: int, overwrite: bool) -> None:
    """Write synthetic head CT studies as DICOM below OUT, with the truth beside them in truth.csv."""
    from dtvit_edge.phantom import write_phantoms

    with render.progress("studies", studies) as step:
        truth = write_phantoms(out, studies, seed, overwrite=overwrite, progress=lambda: step(1))
    render.echo(truth)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line of these words (default: the process's own); returns the exit status."""
    return exit_status.run(cli, sys.argv[1:] if arguments is None else arguments)

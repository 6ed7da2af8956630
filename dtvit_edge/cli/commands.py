"""The command line: a command parses, builds one config, calls one function and prints.

Results go to stdout, progress and logs to stderr. Heavy imports happen inside the commands. Workstation commands live
outside the runtime and are mounted by name; one that is absent says what to install.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from dtvit_edge.cli import render
from dtvit_edge.errors import DtvitError, MissingDependency, VerdictError
from dtvit_edge.targets.table import TARGETS
from dtvit_edge.trt.releases import DEFAULT_CAPABILITIES, DEFAULT_MAX_BATCH, PRECISIONS

# Commands that need PyTorch, ONNX or scikit-learn: name -> (module, attribute, short help).
WORKSTATION_COMMANDS = {
    "bench": ("benchmarks.command", "bench", "Workstation: latency and accuracy in one report; compare A B."),
    "calibrate": ("calibration.command", "calibrate", "Workstation: adds int8 to a bundle, with the gate's verdict."),
    "export": ("export.command", "export", "Workstation: checkpoint -> bundle, parity proved."),
    "train": ("training.command", "train", "Workstation: labelled slices -> checkpoint."),
    "evaluate": ("training.command", "evaluate", "Workstation: tables and figures of trained models."),
}
INTERRUPTED = 130


class Commands(click.Group):
    """A group that also lists the workstation's commands and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return sorted({*super().list_commands(ctx), *WORKSTATION_COMMANDS})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A runtime command; for a workstation one a placeholder that is enough for the list in --help."""
        if name in WORKSTATION_COMMANDS:
            return click.Command(name, short_help=WORKSTATION_COMMANDS[name][2])
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is being called: a workstation one is imported here."""
        if args[0] not in WORKSTATION_COMMANDS:
            return super().resolve_command(ctx, args)
        module, attribute, _ = WORKSTATION_COMMANDS[args[0]]
        try:
            return args[0], getattr(import_module(module), attribute), args[1:]
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"`dtvit-edge {args[0]}` runs on a workstation, from a checkout: "
                f"pip install -e '.[workstation]' ({error.name} is not installed)"
            ) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dtvit-edge")
@click.option("-v", "--verbose", is_flag=True, help="Log every file that is not scored.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, warnings only.")
def cli(verbose: bool, quiet: bool) -> None:
    """Intracerebral haemorrhage on head CT, scored on the device.

    A study that is not flagged is not a normal study. Research use only, not a medical device.
    """
    render.setup_logging(verbose=verbose, quiet=quiet)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
digest_option = click.option("--expect-digest", metavar="SHA256", help="Refuse any other bundle than this one.")
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
threads_option = click.option("--threads", type=click.IntRange(1), help="Threads of a CPU backend.")
device_option = click.option(
    "--device", type=click.IntRange(0), metavar="N", help="CUDA's number of the GPU.  [default: 0]"
)


@cli.command()
@bundle_argument
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where the results go.")
@click.option("--backend", default="auto", show_default=True, help="auto, or a name that `doctor` lists.")
@click.option("--precision", default="fp32", show_default=True, help="Of the model, or of the engine.")
@click.option("--batch", type=click.IntRange(1), help="Slices a batch (default: what suits the backend).")
@threads_option
@device_option
@click.option("--hint", type=click.Choice(["f32", "bf16"]), help="OpenVINO's inference precision.  [default: f32]")
@click.option("--any-series", is_flag=True, help="Score unsuitable series as well, and say so.")
@click.option("--keep-all", is_flag=True, help="Score slices with no brain in view as well.")
@click.option("--reader", default="auto", show_default=True, type=click.Choice(["auto", "pydicom"]),
              help="pydicom: for every file; auto: the common case without it.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Threads that read and decode.  [default: one a core, up to 8]")
@click.option("--deterministic", is_flag=True, help="On a GPU: the same batches, and bytes, in every run.")
@click.option("--overwrite", is_flag=True, help="Replace the results of another run.")
@click.option("--dry-run", is_flag=True, help="List what would be scored; write nothing.")
@digest_option
@json_option
def score(
    bundle: Path,
    folders: tuple[Path, ...],
    out: Path | None,
    overwrite: bool,
    dry_run: bool,
    expect_digest: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score every study below FOLDERS with BUNDLE.

    Writes slices.csv, studies.csv and run.json to OUT; the same command continues a run that was interrupted.
    Exit status: 0 every slice scored or skipped, 3 some refused or failed, 4 none scored, 5 device fault.
    """
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.scoring.api import Options
    from dtvit_edge.scoring.run import make_plan, run

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    config = Options(**options)
    if dry_run:
        _, plan = make_plan(folders, out, config, render.progress)
        render.plan(plan, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out'.")
    report = run(opened, folders, out, config, overwrite=overwrite, progress=render.progress)
    render.run_report(report, opened, any_series=config.any_series, as_json=as_json)
    raise SystemExit(report.exit_status)


@cli.command()
@bundle_argument
@click.option("--backend", "names", multiple=True, help="Only this backend (default: every one found here).")
@threads_option
@device_option
@digest_option
@json_option
def verify(
    bundle: Path,
    names: tuple[str, ...],
    threads: int | None,
    device: int | None,
    expect_digest: str | None,
    as_json: bool,
) -> None:
    """Check BUNDLE's digests, and its golden slices on this machine's backends. Exit status 1 where one disagrees."""
    from dtvit_edge import backends
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.scoring.api import Options, open_backend, testable
    from dtvit_edge.selftest import selftest

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    chosen = names or [name for name, why_not in backends.availability().items() if why_not is None]
    results = []
    for name in [backends.choose(name).name for name in chosen]:
        for precision in testable(opened, name):
            gpu = backends.runs_engines(name)
            options = Options(precision=precision, threads=None if gpu else threads, device=device if gpu else None)
            with open_backend(opened, name, options) as backend:
                results.append(selftest(opened, backend))
    render.selftests(opened, results, as_json=as_json)
    if not results:
        runs = [f"{name} runs {backends.what_runs(name)}" for name in chosen] or ["no backend is here"]
        have = ", ".join(opened.present) or "no model"
        raise VerdictError("; ".join([f"no golden slice was run: this copy has {have}", *runs]))
    if not all(result.passed for result in results):
        raise VerdictError("a backend disagrees with the golden logits")


@cli.command()
@bundle_argument
@click.option("--precision", required=True, type=click.Choice(PRECISIONS), help="Of the engine.")
@click.option("--backend", default="auto", show_default=True, help="auto, tensorrt or tensorrt-rtx.")
@click.option("--max-batch", type=click.IntRange(1), default=DEFAULT_MAX_BATCH, show_default=True, help="The largest.")
@click.option(
    "--ahead-of-time", is_flag=True, help="TensorRT for RTX: compile with no GPU; there is no self-test then."
)
@click.option(
    "--sm",
    "capabilities",
    multiple=True,
    metavar="X.Y",
    help=f"Ahead of time for these.  [{', '.join(DEFAULT_CAPABILITIES)}]",
)
@click.option(
    "--workspace", "workspace_mib", type=click.IntRange(1), metavar="MIB", help="[default: half of what is free]"
)
@click.option("--no-library-tactics", is_flag=True, help="Below TensorRT 11: leave cuBLAS and cuDNN out.")
@click.option(
    "--builder-optimization-level",
    type=click.IntRange(0, 5),
    metavar="0..5",
    help="How long the builder searches; 8.6 and newer.  [default: the library's, 3]",
)
@device_option
@digest_option
@json_option
def build(bundle: Path, expect_digest: str | None, no_library_tactics: bool, as_json: bool, **options: Any) -> None:
    """Build a TensorRT engine from BUNDLE, on the device that will run it.

    It is installed in the bundle's engines/ after its golden slices passed at batch 1 and at the largest batch. Exit
    status 1 where they do not, or where the engine is not of the precision that was asked for.
    """
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.trt.build import BuildOptions, build_engine

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    record = build_engine(opened, BuildOptions(**options, library_tactics=not no_library_tactics))
    render.build(record, opened, as_json=as_json)


@cli.command()
@bundle_argument
@click.option("--target", type=click.Choice(list(TARGETS)), required=True, help="What is to run BUNDLE.")
@digest_option
@json_option
def explain(bundle: Path, target: str, expect_digest: str | None, as_json: bool) -> None:
    """Say what a target will refuse, decompose or not fuse of BUNDLE; needs no GPU.

    Exit status 1 where the target can run none of its files.
    """
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.targets import explain as explain_bundle

    opened = Bundle.open(bundle, expect_digest=expect_digest)
    found = explain_bundle(opened, target)
    render.explanation(found, as_json=as_json)
    if not found.runs:
        raise VerdictError(f"{target} can run no file of this {'copy of the ' if opened.absent else ''}bundle")


@cli.command()
@bundle_argument
@click.option("--device-files", "target", type=click.Choice(list(TARGETS)), help="List what this target needs of it.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), help="List for these alone.")
@click.option("--tensorrt", metavar="VERSION", help="List for the target's releases of this version alone.")
@digest_option
@json_option
def inspect(
    bundle: Path,
    target: str | None,
    precisions: tuple[str, ...],
    tensorrt: str | None,
    expect_digest: str | None,
    as_json: bool,
) -> None:
    """Show what BUNDLE holds, after checking its digests.

    With --device-files, one path a line from the folder that BUNDLE lies in, for rsync --files-from or tar -T; their
    size goes to stderr.
    """
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.targets.device_files import device_files

    if target is None and (precisions or tensorrt):
        raise click.UsageError("--precision and --tensorrt go with --device-files")
    opened = Bundle.open(bundle, expect_digest=expect_digest)
    if target is not None:
        render.device_files(device_files(opened, target, precisions, tensorrt), as_json=as_json)
    else:
        render.bundle(opened, as_json=as_json)


@cli.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show versions, backends and decoders of this machine, to paste into a bug report."""
    from dtvit_edge.cli.doctor import examine

    facts = examine()
    if as_json:
        click.echo(json.dumps(asdict(facts), indent=1))
    else:
        render.facts(facts)


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--studies", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the phantoms of an earlier call.")
def phantom(out: Path, studies: int, seed: int, overwrite: bool) -> None:
    """Write synthetic head CT studies as DICOM below OUT, with the truth beside them in truth.csv."""
    from dtvit_edge.phantom import write_phantoms

    with render.progress("studies", studies) as step:
        truth = write_phantoms(out, studies, seed, overwrite=overwrite, progress=lambda: step(1))
    click.echo(truth)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the only place that catches the base error.

    Returns:
        The exit status: the command's own, an error's, 2 for wrong usage, 130 when interrupted.
    """
    try:
        cli.main(args=arguments, prog_name="dtvit-edge", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; the same command continues where it stopped", err=True)
        return INTERRUPTED
    except DtvitError as error:
        logging.getLogger(__name__).debug("", exc_info=True)
        click.echo(f"error: {error}", err=True)
        return error.exit_status
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def entry() -> None:
    """The console script."""
    sys.exit(main())

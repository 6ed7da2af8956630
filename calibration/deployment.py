"""From weights to all that this machine can do: bundle, int8, engines, device profile; no step is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.calibrate import Config, calibrate
from calibration.deploy_engines import build_engines
from calibration.deploy_record import (
    StepRecord,
    calibration_inputs,
    export_inputs,
    read_record,
    write_record,
)
from calibration.deploy_steps import (
    CALIBRATE,
    EXPORT,
    NOT_ASKED,
    TUNE,
    Outcome,
    Step,
    calibration_outcomes,
    export_outcomes,
)
from calibration.deploy_tuning import tune_here
from calibration.slices import find_candidates, load
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.leftovers import clear_leftovers
from dtvit_edge.errors import BundleError, ConfigError, VerdictError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.scoring.lock import FolderLock
from evaluation.gate import FAILED
from evaluation.sampling import Candidate
from export.bundle_export import export_bundle
from export.importing import ImportOptions
from export.output import check_output, check_place

Inputs = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Deployment:
    """What is to be deployed.

    Attributes:
        expect: images with the user's own outputs, as `export_bundle` takes them.
        slices, test_slices, other: folders and labelled CSVs; without slices nothing is calibrated.
        config: of the calibration.
        tune_seconds: how long to measure what is fastest here; 0 leaves that out.
    """

    weights: Path
    output: Path
    options: ImportOptions = field(default_factory=ImportOptions)
    expect: Path | None = None
    slices: Sequence[Path] = ()
    test_slices: Sequence[Path] = ()
    other: Sequence[Path] = ()
    config: Config = field(default_factory=Config)
    tune_seconds: float = 60.0


def deploy(
    asked: Deployment,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Step]:
    """Export, calibrate, build and tune, one after the other; each step is given as soon as it has ended.

    A step that ended before, from the same inputs, is not repeated if the bundle is still the one that was left.

    Args:
        overwrite: replace what other weights, options or commands left under that name.
        say: is given a line for each thing that begins or is concluded.

    Raises:
        ConfigError: wrong options, slices that do not do, a bundle of something else, or another deployment to the
            same name that is still running; nothing is written then.
        CheckpointError, BundleError, DeviceFault: as the commands of the steps, or another command has changed the
            bundle meanwhile; what has ended stays.
    """
    check_place(asked.output)
    with FolderLock(asked.output.parent, asked.output.name):
        clear_leftovers(asked.output)
        yield from _deployed(asked, overwrite, progress, say)


def _deployed(asked: Deployment, overwrite: bool, progress: Progress, say: Callable[[str], None]) -> Iterator[Step]:
    """`deploy`, which holds the lock."""
    wanted = {EXPORT: export_inputs(asked.weights, asked.options, asked.expect)}
    if asked.slices:
        wanted[CALIBRATE] = calibration_inputs(
            asked.slices, asked.test_slices, asked.config, other=asked.other, progress=progress
        )
    record = _ended(asked.output, wanted, overwrite=overwrite)
    if wanted.keys() - record.keys():
        check_output(asked.output, overwrite=True)
    candidates: Mapping[str, Sequence[Candidate]] = {}
    if asked.slices and CALIBRATE not in record:
        # Before minutes are spent on the export: slices that do not do are wrong usage.
        candidates = find_candidates(
            asked.slices, asked.test_slices, asked.config, other=asked.other, progress=progress
        )

    def run(name: str, make: Callable[[], Bundle], outcomes: Callable[[Bundle], tuple[Outcome, ...]]) -> Step:
        if name in record:
            say(f"{name}: done before, from the same inputs")
            return Step(name, outcomes(Bundle.open(asked.output)), record[name].seconds, before=True)
        say(f"{name}: begins")
        began = time.perf_counter()
        write_record(asked.output, record | {name: StepRecord(wanted[name])})
        try:
            bundle = make()
        except VerdictError as error:
            return Step(name, (Outcome("", FAILED, str(error)),), round(time.perf_counter() - began, 3))
        record[name] = StepRecord(wanted[name], bundle.digest, round(time.perf_counter() - began, 3))
        write_record(asked.output, record)
        return Step(name, outcomes(bundle), record[name].seconds)

    def exported() -> Bundle:
        return export_bundle(
            asked.weights, asked.output, asked.options, expect=asked.expect, overwrite=True, progress=say
        )

    def left() -> Bundle:
        """The bundle that the last step left, and no other that was put in its place since."""
        bundle = Bundle.open(asked.output)
        if bundle.digest != [step.bundle for step in record.values() if step.bundle is not None][-1]:
            raise BundleError(f"{asked.output} was changed by another command while deploy ran; run it again")
        return bundle

    def calibrated() -> Bundle:
        bundle = left()
        sets = load(bundle, candidates, asked.config, progress=progress)
        return calibrate(bundle, sets, asked.config, progress=progress).bundle

    yield run(EXPORT, exported, export_outcomes)
    if EXPORT not in record:
        return
    if asked.slices:
        yield run(CALIBRATE, calibrated, calibration_outcomes)
    else:
        yield Step(CALIBRATE, (Outcome("", NOT_ASKED, "--slices DIR adds int8, if the gate agrees"),))
    yield build_engines(left(), say)
    if asked.tune_seconds:
        say(f"{TUNE}: measuring what is fastest here")
    yield tune_here(left(), asked.tune_seconds, progress)


def _ended(output: Path, wanted: Inputs, *, overwrite: bool) -> dict[str, StepRecord]:
    """The steps that need no repeating.

    Raises:
        ConfigError: something else lies there, and `overwrite` is off.
    """
    try:
        record = read_record(output)
        refusal = _refusal(output, wanted, record)
    except ConfigError as error:  # a damaged record
        record, refusal = None, str(error)
    if refusal is not None and not overwrite:
        raise ConfigError(f"{refusal}; give another -o, or --overwrite deploys anew")
    if record is None or refusal is not None or not output.exists():
        return {}
    ended = {name: step for name, step in record.items() if step.bundle is not None}
    # Killed while a step replaced the bundle: which of the two lies there is not known, and it is all made anew.
    return ended if ended and Bundle.open(output).digest == list(ended.values())[-1].bundle else {}


def _refusal(output: Path, wanted: Inputs, record: Mapping[str, StepRecord] | None) -> str | None:
    """Why what lies there is not to be gone on with, or None."""
    if not output.exists():
        return None
    if record is None:
        return f"{output} exists, and deploy did not make it"
    for name, step in record.items():
        if name not in wanted:
            return f"{output} was calibrated, and no --slices are given"
        differing = sorted(
            key for key in {*step.inputs, *wanted[name]} if step.inputs.get(key) != wanted[name].get(key)
        )
        if differing:
            return f"{output} was deployed with other inputs of {name}: {', '.join(differing)}"
    changed = f"{output} is not what deploy left"
    try:
        bundle = Bundle.open(output)
        bundle.require_whole()
        bundle.check_files()
    except BundleError as error:
        return f"{changed}: {error}"
    lasting = [step for step in record.values() if step.bundle is not None]
    interrupted = len(lasting) < len(record)
    if lasting and bundle.digest == lasting[-1].bundle:
        return None
    if interrupted and bundle.manifest.weights_sha256 == wanted[EXPORT]["weights"]:
        return None
    return changed

"""A run into an output folder: plan, journal, resume, and the result files.

The same bundle, options, backend version and inputs continue from the journal; anything else in the folder is refused
unless it may be overwritten. `slices.csv` and `studies.csv` are written at the end, each in one step.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import Configuration
from dtvit_edge.dicom.discover import Plan, discover
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.dicom.walk import Walk, walk
from dtvit_edge.environment import machine, package_versions
from dtvit_edge.errors import ConfigError, DeviceFault, SliceRejected
from dtvit_edge.files import make_folder, remove_parts, unusable, write_atomically
from dtvit_edge.preprocess import native
from dtvit_edge.progress import Progress, silent
from dtvit_edge.reasons import Status
from dtvit_edge.results import SliceScore
from dtvit_edge.scoring.api import (
    Options,
    StudyResult,
    answers_of,
    images_of,
    make_pipeline,
    open_backend,
    open_executor,
    study_result,
    thresholds_of,
)
from dtvit_edge.scoring.configuration import resolve
from dtvit_edge.scoring.csv_files import slices_csv, studies_csv
from dtvit_edge.scoring.journal import FILE_NAME as JOURNAL
from dtvit_edge.scoring.journal import Journal, begun_configuration
from dtvit_edge.scoring.judgement import Key
from dtvit_edge.scoring.lock import FILE_NAME as LOCK
from dtvit_edge.scoring.lock import FolderLock
from dtvit_edge.scoring.pipeline import rejected_row
from dtvit_edge.scoring.timings import Timings
from dtvit_edge.spec import NOTICE, digest_json

SLICES, STUDIES, RUN = "slices.csv", "studies.csv", "run.json"
NOTHING_SCORED = 4  # exit status
OUTPUT_FILES = (SLICES, STUDIES, RUN, JOURNAL)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReport:
    """How a run ended.

    Attributes:
        counts: slices by status; reasons: slices by reason code.
        resumed: slices taken from the journal.
    """

    studies: tuple[StudyResult, ...]
    counts: dict[str, int]
    reasons: dict[str, int]
    resumed: int
    files: tuple[Path, ...]

    @property
    def exit_status(self) -> int:
        """4 none scored, 3 some refused or failed, 0 every row scored or skipped and at least one scored."""
        if not self.counts.get(Status.SCORED):
            return NOTHING_SCORED
        return 3 if self.counts.get(Status.REFUSED) or self.counts.get(Status.ERROR) else 0


def make_plan(
    folders: Sequence[Path], out: Path | None, options: Options, progress: Progress = silent
) -> tuple[Walk, Plan]:
    """Walk and read headers; the output folder is left out where it lies inside."""
    walked = walk(folders, exclude=out)
    with progress("headers", len(walked.files)) as step:
        plan = discover(walked, any_series=options.any_series, fast=options.fast, progress=lambda: step(1))
    return walked, plan


def run(
    bundle: Bundle,
    folders: Sequence[Path],
    out: Path,
    options: Options,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> RunReport:
    """Score everything below the folders into `out`.

    Raises:
        ConfigError: a folder or backend that is not there, an output folder that cannot be written, is held by another
            process or holds another run; no file has been scored then.
        DeviceFault: the device failed; what was in flight is marked in the journal, a rerun finishes the job.
        DiskFault: the output cannot be written any more; a rerun finishes the job.
    """
    started = datetime.now(timezone.utc)
    timings = Timings()
    resolved = resolve(bundle, options, None if overwrite else begun_configuration(out / JOURNAL))
    options = resolved.options
    with timings.stage("discover"):
        walked, plan = make_plan(folders, out, options, progress)
    _log_plan(plan)
    for warning, count in _warnings(plan).items():
        log.warning("%s: %d series", warning, count)
    images = images_of(plan, bundle.manifest.spec)
    slices = sum(len(image.headers) for image in images)
    with (
        open_backend(bundle, options.backend, options) as backend,
        open_executor(bundle, backend, options) as executor,
    ):
        asked = asdict(options) | {"batch": executor.batch}
        del asked["workers"]  # changes neither results nor batches
        identity = {
            "bundle": bundle.digest,
            "spec": bundle.manifest.spec.digest,
            "thresholds": thresholds_of(bundle, options).to_dict(),
            "options": asked,
            "backend": backend.describe(),
            "packages": package_versions(),
        }
        configuration = {f.name: asked[f.name] for f in fields(Configuration)}
        inputs = _inputs_digest(walked, images)
        pipeline = make_pipeline(bundle, executor, options, timings=timings, rejected=_log_rejection)
        with (
            _folder(out, overwrite),
            Journal(out / JOURNAL, digest_json(identity), inputs, images, configuration) as journal,
            progress("slices", slices) as step,
        ):
            resumed = sum(map(len, journal.done.values()))
            step(resumed)
            try:
                for scored in pipeline(images, done=set(journal.done)):
                    journal.append(scored.indices, scored.images)
                    step(len(scored.rows))
            except DeviceFault as error:
                journal.fault([h.path for i in pipeline.in_flight for h in images[i].headers], str(error))
                raise
            answers = {
                k: row for i, image in enumerate(images) for k, row in answers_of(image, journal.done[i]).items()
            }
            with timings.stage("write"):
                threshold = thresholds_of(bundle, options).study.value
                report = _finish(bundle, plan, answers, threshold, out, resumed)
            _write_run_report(
                out,
                bundle,
                identity | {"inputs": inputs, "configuration_from": resolved.why},
                report,
                plan,
                timings,
                started,
            )
    return report


def _finish(
    bundle: Bundle, plan: Plan, answers: Mapping[Key, SliceScore], threshold: float, out: Path, resumed: int
) -> RunReport:
    spec = bundle.manifest.spec
    studies = tuple(study_result(plan.study(uid), answers, spec, threshold) for uid in plan.study_uids)
    rows = [row for study in studies for row in study.slices]
    rows += [rejected_row(r, r.reason) for r in plan.rejected if not r.identity.study_uid]
    status = bundle.manifest.training
    write_atomically(out / SLICES, slices_csv(rows, model_status=status))
    write_atomically(out / STUDIES, studies_csv([s.study for s in studies], model_status=status))
    return RunReport(
        studies,
        counts=dict(sorted(Counter(str(row.status) for row in rows).items())),
        reasons=dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
        resumed=resumed,
        files=tuple(out / name for name in (SLICES, STUDIES, RUN)),
    )


def _write_run_report(
    out: Path,
    bundle: Bundle,
    identity: dict[str, Any],
    report: RunReport,
    plan: Plan,
    timings: Timings,
    started: datetime,
) -> None:
    """`run.json`: what produced the results. It names no folder, since folder names can carry patients' names."""
    data = {
        "notice": NOTICE,
        "bundle": {
            "name": bundle.manifest.name,
            "digest": bundle.digest,
            "training": bundle.manifest.training,
            "untrained_heads": bundle.manifest.untrained_heads,
            "encoder": bundle.manifest.encoder,
        },
        "thresholds": identity["thresholds"],
        "spec": bundle.manifest.spec.to_dict(),
        "spec_digest": bundle.manifest.spec.digest,
        "options": identity["options"],
        "configuration_from": identity["configuration_from"],
        "backend": identity["backend"],
        "packages": identity["packages"],
        "machine": machine(),
        "cpu_preprocessing": native.description(),
        "inputs": identity["inputs"],
        "counts": {
            "studies": dict(Counter(str(s.study.status) for s in report.studies)),
            "slices": report.counts,
            "reasons": report.reasons,
            "warnings": _warnings(plan),
            "slices_resumed": report.resumed,
        },
        "seconds": {stage: round(value, 4) for stage, value in timings.seconds.items()},
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_atomically(out / RUN, json.dumps(data, indent=1) + "\n")


@contextmanager
def _folder(out: Path, overwrite: bool) -> Iterator[None]:
    """Make the folder and hold it; what an earlier run left goes only with `overwrite`, anything else never."""
    make_folder(out)
    _refuse_others(out, overwrite)  # before the lock leaves its file among them
    with FolderLock(out):
        _refuse_others(out, overwrite)
        try:
            for name in OUTPUT_FILES:
                remove_parts(out / name)
                if overwrite:
                    (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise unusable(out, error) from error
        yield


def _refuse_others(out: Path, overwrite: bool) -> None:
    try:
        strange = {path.name for path in out.iterdir()} - {LOCK}
    except OSError as error:
        raise unusable(out, error) from error
    if strange and not overwrite and JOURNAL not in strange:
        raise ConfigError(f"{out} is not empty and holds no run; give another folder or --overwrite")


def _inputs_digest(walked: Walk, images: Sequence[SliceImage]) -> str:
    """Of the files as the walk found them, and of what was made of them: the journal knows images by their index."""
    return digest_json(
        [
            [(entry.path, entry.state) for entry in walked.files],
            [(rejection.path, rejection.reason.code) for rejection in walked.rejected],
            [[(h.path, h.frame, h.identity.sop_uid) for h in image.headers] for image in images],
        ]
    )


def _warnings(plan: Plan) -> dict[str, int]:
    return dict(sorted(Counter(w for s in plan.series if s.refusal is None for w in s.warnings).items()))


def _log_plan(plan: Plan) -> None:
    """What will not be scored, one line a file or frame, and a line a series that is set aside."""
    for rejection in plan.rejected:
        # What has no UID is known by its place alone: folder names can carry patients' names.
        name = rejection.identity.sop_uid or "a file without a UID"
        log.debug("%s frame %d: %s %s", name, rejection.frame, rejection.reason.sentence, rejection.detail)
    for series in plan.series:
        if series.refusal is not None:
            log.debug("series %s, %d slices: %s", series.series_uid, len(series.headers), series.refusal.sentence)


def _log_rejection(header: SliceHeader, error: SliceRejected) -> None:
    # By UID, never by path: folder names can carry patients' names.
    log.debug("%s frame %d: %s %s", header.identity.sop_uid, header.frame, error.reason.sentence, error.detail)

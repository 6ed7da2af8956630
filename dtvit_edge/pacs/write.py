"""Objects of a finished run: an SR for each study, and a key image where it is asked for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dtvit_edge.dicom.plan import Plan
from dtvit_edge.errors import ConfigError
from dtvit_edge.escaping import csv_cell
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.pacs.evidence import Evidence, evidence
from dtvit_edge.pacs.key_image import key_image
from dtvit_edge.pacs.packages import OBJECTS, require
from dtvit_edge.pacs.statement import Statement, statement_of
from dtvit_edge.pacs.structured_report import Naming, object_bytes, structured_report
from dtvit_edge.pacs.uids import derived_uid, is_uid
from dtvit_edge.progress import Progress, silent
from dtvit_edge.report.run_results import RunResults, SliceRow, StudyRow, read_run
from dtvit_edge.report.words import left_out_line
from dtvit_edge.scoring.run import make_plan

TWO_PATIENTS = "two_patients"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyStatement:
    """A study of a run, ready to be made into objects.

    Attributes:
        rows: of its slices; digest: of all that the run says of it.
    """

    statement: Statement
    found: Evidence
    rows: tuple[SliceRow, ...]
    digest: str
    finished: datetime

    @property
    def remarks(self) -> tuple[str, ...]:
        """For people: what was left out."""
        line = left_out_line(self.rows)
        return (f"What was left out: {line[0].lower()}{line[1:]}",)


@dataclass(frozen=True)
class Written:
    """What was written, and why some studies have no object, by reason."""

    files: tuple[Path, ...]
    without: dict[str, int]


def write_objects(
    out: Path, folders: Sequence[Path], to: Path, *, with_key_image: bool = False, progress: Progress = silent
) -> Written:
    """Write an SR for each study of the finished run in `out`; the same run gives the same files.

    Args:
        folders: what was scored: patient, study and references come from there.
        to: the folder to write to.

    Raises:
        ConfigError: no finished run, or a folder that is not there or cannot be written.
        MissingDependency: highdicom is not installed.
        DiskFault: an object cannot be written.
    """
    require(*OBJECTS)
    results = read_run(out)
    plan = make_plan(folders, out, results.options, progress)[1]
    make_folder(to)
    files: list[Path] = []
    without: dict[str, int] = {}
    with progress("objects", len(results.studies)) as step:
        for study in study_statements(results, plan):
            step(1)
            if isinstance(study, str):
                without[study] = without.get(study, 0) + 1
                continue
            uid = study.statement.study_uid
            naming = Naming(
                series_uid=derived_uid("series", study.statement.bundle_sha256, uid),
                sop_uid=derived_uid("report", study.digest),
                device_uid=derived_uid("device", study.statement.bundle_sha256),
                made=study.finished,
            )
            report = structured_report(study.statement, study.found, naming, study.remarks)
            files.append(to / f"{uid}-sr.dcm")
            write_atomically(files[-1], object_bytes(report))
            image = key_image(study.statement, study.found, naming, results.spec) if with_key_image else None
            if image is not None:
                files.append(to / f"{uid}-key.dcm")
                write_atomically(files[-1], object_bytes(image))
    for why, count in without.items():
        log.warning("%d studies have no object: %s", count, why)
    return Written(tuple(files), without)


def study_statements(results: RunResults, plan: Plan, study_uid: str | None = None) -> Iterator[StudyStatement | str]:
    """Each study of a run, or why there can be no object of it.

    Args:
        study_uid: of this study alone, which the run may not have: none of its files could be read.
    """
    uids = {csv_cell(uid): uid for uid in plan.study_uids}
    studies = {study.uid: study for study in results.studies}
    finished = datetime.fromisoformat(str(results.run["finished"])).astimezone()
    for cell, rows in results.slices_by_study():
        if not cell or cell not in studies or (study_uid is not None and cell != csv_cell(study_uid)):
            continue
        uid = uids.get(cell, "")
        if TWO_PATIENTS in studies[cell].reasons:
            yield "images of more than one patient carry its UID"
        elif not uid:
            yield "its files are not below the folders given"
        elif not is_uid(uid) or cell in results.repeated:
            yield "its UID is none"
        else:
            yield _statement(results, studies[cell], uid, plan.study(uid), rows, finished)


def _statement(
    results: RunResults, study: StudyRow, uid: str, plan: Plan, rows: Sequence[SliceRow], finished: datetime
) -> StudyStatement | str:
    statement = statement_of(results, study, uid, rows)
    if plan.patients.get(uid, 1) > 1:
        return "images of more than one patient carry its UID"
    known = {h.identity.sop_uid for series in plan.series for h in series.headers}
    known |= {rejection.identity.sop_uid for rejection in plan.rejected}
    if any(row.sop_uid not in known for row in rows):
        raise ConfigError("the folders do not hold what the run scored; `score` them again, and then ask for objects")
    found = evidence(uid, plan, rows, statement.top_sop_uid)
    if found is None:
        return "no file of it has a header that can be copied from"
    return StudyStatement(statement, found, tuple(rows), digest_of(statement, rows, finished), finished)


def digest_of(statement: Statement, rows: Sequence[SliceRow], finished: datetime) -> str:
    """Of all that a run says of a study: the UID of its object, which an archive knows it by, comes from there.

    A later version gives the same run the same digest: a field that joins one of these types stays out of its `repr`.
    """
    said = repr((statement, list(rows), finished.isoformat()))
    return hashlib.sha256(said.encode("utf-8", "backslashreplace")).hexdigest()

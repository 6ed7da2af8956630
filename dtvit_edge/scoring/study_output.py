"""Finished studies of a run: their rows go into the result files, their scores are kept, the log hears of the rest."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter

from dtvit_edge.dicom.plan import Plan
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import StudyScore
from dtvit_edge.scoring.csv_files import Identification
from dtvit_edge.scoring.result_files import ResultFiles
from dtvit_edge.scoring.series_file import series_outcomes
from dtvit_edge.scoring.studies import ScoredStudy
from dtvit_edge.spec import PreprocessSpec

log = logging.getLogger(__name__)


class StudyOutput:
    """Takes the studies of one plan as they end.

    Attributes:
        scores: of the studies so far; their rows are written, and of many studies too many to be kept.
    """

    def __init__(self, files: ResultFiles, spec: PreprocessSpec, threshold: float) -> None:
        self.scores: list[StudyScore] = []
        self._warnings: Counter[str] = Counter()
        self._files = files
        self._spec = spec
        self._threshold = threshold

    @property
    def warnings(self) -> dict[str, int]:
        """By code, of how many series."""
        return dict(sorted(self._warnings.items()))

    def take(self, study: ScoredStudy) -> None:
        """Take a study that has ended."""
        self._warnings.update(w for series in study.plan.series if series.refusal is None for w in series.warnings)
        _log_part(study.plan)
        result = study.result(self._spec, self._threshold)
        outcomes = series_outcomes(study.plan, result.slices)
        if study.uid:
            self.scores.append(result.study)
            self._files.add(study.uid, result.slices, result.study, _identification(study.plan), outcomes)
        else:
            self._files.add("", result.slices, None, None, outcomes)


def log_rejection(header: SliceHeader, error: SliceRejected) -> None:
    """What could not be scored of a slice, by UID, never by path: folder names can carry patients' names."""
    log.debug("%s frame %d: %s %s", header.identity.sop_uid, header.frame, error.reason.sentence, error.detail)


def _identification(plan: Plan) -> Identification:
    """AccessionNumber and StudyDate as the study's images say them, and the folder that all of it lies in."""
    headers = [header for series in plan.series for header in series.headers]
    paths = {h.path.rpartition("/")[0] for h in headers} | {r.path.rpartition("/")[0] for r in plan.rejected}
    accessions = sorted({h.accession_number for h in headers} - {""})
    dates = sorted({h.study_date for h in headers} - {""})
    return ";".join(accessions), ";".join(dates), posixpath.commonpath(paths) or "."


def _log_part(plan: Plan) -> None:
    """What will not be scored, one line a file or frame, and a line a series that is set aside."""
    for rejection in plan.rejected:
        # What has no UID is known by its place alone: folder names can carry patients' names.
        name = rejection.identity.sop_uid or "a file without a UID"
        log.debug("%s frame %d: %s %s", name, rejection.frame, rejection.reason.sentence, rejection.detail)
    for series in plan.series:
        if series.refusal is not None:
            log.debug("series %s, %d slices: %s", series.series_uid, len(series.headers), series.refusal.sentence)

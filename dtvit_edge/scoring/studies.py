"""Studies of a plan, one after the other: what the journal has, what has to be scored, and each study's result.

A study is planned when its turn comes, and its result is written when the last of its images is answered: of all
others nothing but packed headers is held.
"""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.plan import Plan
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.errors import DeviceFault, SliceRejected
from dtvit_edge.results import SliceScore, StudyScore
from dtvit_edge.scoring.api import answers_of, study_result, thresholds_of
from dtvit_edge.scoring.csv_files import Identification
from dtvit_edge.scoring.journal import Journal
from dtvit_edge.scoring.journal_lines import ambiguous_images, image_key
from dtvit_edge.scoring.judgement import Key
from dtvit_edge.scoring.opened import RunModel
from dtvit_edge.scoring.pipeline import rejected_row
from dtvit_edge.scoring.result_files import ResultFiles
from dtvit_edge.scoring.series_file import series_outcomes
from dtvit_edge.scoring.timings import Timings
from dtvit_edge.spec import PreprocessSpec

log = logging.getLogger(__name__)


@dataclass
class _Study:
    """A study under way.

    Attributes:
        todo: images that are not answered, by key; None for those whose key says nothing.
        answers: rows of its slices so far; left: images that are not answered.
    """

    uid: str
    plan: Plan
    todo: list[tuple[str | None, SliceImage]] = field(default_factory=list)
    answers: dict[Key, SliceScore] = field(default_factory=dict)
    resumed: int = 0
    left: int = 0
    stepped: int = 0


class StudyScorer:
    """Scores the studies of one plan.

    Args:
        images_of: makes a study's images.
        step: told of slices that are done.

    Attributes:
        resumed: slices taken from the journal; processed: slices that were read and scored.
        warnings: by code, of how many series.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: RunModel,
        journal: Journal,
        files: ResultFiles,
        timings: Timings,
        images_of: Callable[[Plan, PreprocessSpec], Sequence[SliceImage]],
        step: Callable[[int], None],
    ) -> None:
        self.resumed = self.processed = 0
        self._warnings: Counter[str] = Counter()
        self._spec = bundle.manifest.spec
        self._threshold = thresholds_of(bundle, model.options).study.value
        self._journal = journal
        self._files = files
        self._images_of = images_of
        self._step = step
        self._pipeline = model.pipeline(bundle, timings=timings, rejected=_log_rejection)
        self._keys: set[str] = set()
        self._of: dict[int, tuple[_Study, str | None]] = {}
        self._results: list[StudyScore] = []

    @property
    def warnings(self) -> dict[str, int]:
        """By code, of how many series."""
        return dict(sorted(self._warnings.items()))

    def score(self, plan: Plan) -> tuple[StudyScore, ...]:
        """Score what the journal does not have; returns the studies in order.

        Raises:
            DeviceFault: the device failed; what was in flight is marked in the journal.
            DiskFault: the output cannot be written any more.
        """
        left = list(self._answered_before(plan)) if self._journal.images else list(plan.parts)
        try:
            for scored in self._pipeline(self._todo(plan, left)):
                studies = [self._of.pop(id(image)) for image in scored.of]
                rows = {key: of for (_, key), of in zip(studies, scored.images, strict=True) if key is not None}
                self._journal.append(rows)
                for (study, _), image, of_image in zip(studies, scored.of, scored.images, strict=True):
                    study.answers |= answers_of(image, of_image)
                    study.left -= 1
                    self._done(study, len(of_image))
                    if not study.left:
                        self._finish(study)
                        self._write_if_due()
        except DeviceFault as error:
            self._journal.fault([h.path for image in self._pipeline.in_flight for h in image.headers], str(error))
            raise
        self._journal.forget_all_but(self._keys)
        return tuple(sorted(self._results, key=lambda study: study.study_uid))

    def _answered_before(self, plan: Plan) -> Iterator[str]:
        """Finish the studies of which the journal has every image; the UIDs of all others."""
        for uid in plan.parts:
            study = self._begin(plan, uid)
            if study.todo:
                yield uid
            else:
                self._finish(study)
        self._write_if_due()

    def _todo(self, plan: Plan, uids: Sequence[str]) -> Iterator[SliceImage]:
        for uid in uids:
            study = self._begin(plan, uid)
            study.left = len(study.todo)
            self.processed += sum(len(image.headers) for _, image in study.todo)
            if not study.todo:
                self._finish(study)
                self._write_if_due()
            for key, image in study.todo:
                self._of[id(image)] = study, key
                yield image
            study.todo.clear()

    def _begin(self, plan: Plan, uid: str) -> _Study:
        """Plan a study, and take what the journal has of it."""
        study = _Study(uid, plan.study(uid))
        images = self._images_of(study.plan, self._spec)
        keys = [image_key(image) for image in images]
        ambiguous = {key for key, is_one in zip(keys, ambiguous_images(images), strict=True) if is_one}
        self._journal.drop(ambiguous)
        self._keys.update(keys)
        for key, image in zip(keys, images, strict=True):
            if (rows := self._journal.rows(key, image)) is None:
                study.todo.append((None if key in ambiguous else key, image))
            else:
                study.answers |= answers_of(image, rows)
                study.resumed += len(rows)
        return study

    def _finish(self, study: _Study) -> None:
        part = study.plan.parts[study.uid]
        self.resumed += study.resumed
        self._warnings.update(w for series in part.series if series.refusal is None for w in series.warnings)
        _log_part(study.plan)
        if study.uid:
            result = study_result(study.plan, study.answers, self._spec, self._threshold)
            self._results.append(result.study)  # its rows are written, and of many studies too many to be kept
            outcomes = series_outcomes(study.plan, result.slices)
            self._files.add(study.uid, result.slices, result.study, _identification(study.plan), outcomes)
        else:
            rows = [rejected_row(r, r.reason) for r in part.rejected]
            self._files.add("", rows, None, None, series_outcomes(study.plan, rows))
        self._done(study, sum(len(series.headers) for series in part.series) - study.stepped)

    def _write_if_due(self) -> None:
        if self._results:  # rows of no study are no reason to write
            self._files.write_if_due()

    def _done(self, study: _Study, slices: int) -> None:
        study.stepped += slices
        self._step(slices)


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


def _log_rejection(header: SliceHeader, error: SliceRejected) -> None:
    # By UID, never by path: folder names can carry patients' names.
    log.debug("%s frame %d: %s %s", header.identity.sop_uid, header.frame, error.reason.sentence, error.detail)

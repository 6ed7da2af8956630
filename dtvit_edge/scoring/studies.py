"""Studies of a plan, one after the other: what the journal has, what has to be scored, and each study's result.

A study is planned when its turn comes, and ends when the last of its images is answered: of all others nothing but
packed headers is held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dtvit_edge.dicom.plan import Plan
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import DeviceFault
from dtvit_edge.results import SliceScore
from dtvit_edge.scoring.aggregate import study_score
from dtvit_edge.scoring.api import StudyResult, answers_of, images_of, study_result
from dtvit_edge.scoring.journal import Journal
from dtvit_edge.scoring.journal_lines import ambiguous_images, image_key
from dtvit_edge.scoring.judgement import Key
from dtvit_edge.scoring.opened import ImagePipeline
from dtvit_edge.scoring.pipeline import rejected_row
from dtvit_edge.spec import PreprocessSpec


@dataclass
class ScoredStudy:
    """A study under way.

    Attributes:
        uid: empty for what belongs to no study.
        todo: images that are not answered, by key; None for those whose key says nothing.
        answers: rows of its slices so far; left: images that are not answered.
        resumed: slices taken from the journal; stepped: slices that progress was told of.
    """

    uid: str
    plan: Plan
    todo: list[tuple[str | None, SliceImage]] = field(default_factory=list)
    answers: dict[Key, SliceScore] = field(default_factory=dict)
    left: int = 0
    resumed: int = 0
    stepped: int = 0

    def result(self, spec: PreprocessSpec, threshold: float) -> StudyResult:
        """Its scores and rows; of what belongs to no study the rows alone mean something."""
        if self.uid:
            return study_result(self.plan, self.answers, spec, threshold)
        rows = tuple(rejected_row(r, r.reason) for r in self.plan.parts[""].rejected)
        return StudyResult(study_score("", [], rows, threshold=threshold), (), rows)


class StudyScorer:
    """Scores the studies of one plan.

    Args:
        finish: told of each study when the last of its images is answered, at once where it has none.
        journal: knows what was answered before, and keeps what is answered; without it nothing is kept.
        make_images: makes a study's images.
        step: told of slices that are done.

    Attributes:
        resumed: slices taken from the journal; processed: slices that were read and scored.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        pipeline: ImagePipeline,
        finish: Callable[[ScoredStudy], None],
        journal: Journal | None = None,
        *,
        make_images: Callable[[Plan, PreprocessSpec], Sequence[SliceImage]] = images_of,
        step: Callable[[int], None] = lambda slices: None,
    ) -> None:
        self.resumed = self.processed = 0
        self._spec = spec
        self._pipeline = pipeline
        self._tell = finish
        self._journal = journal
        self._make_images = make_images
        self._step = step
        self._keys: set[str] = set()
        self._of: dict[int, tuple[ScoredStudy, str | None]] = {}

    def batches(self, plan: Plan) -> Iterator[None]:
        """Score what the journal does not have, one batch after the other.

        Raises:
            DeviceFault: the device failed; what was in flight is marked in the journal.
            DiskFault: the journal cannot be written any more.
        """
        uids: Iterable[str] = plan.parts
        if self._journal is not None and self._journal.images:
            uids = [uid for uid in plan.parts if not self._answered_before(plan, uid)]
            yield
        images = self._todo(plan, uids)
        try:
            for scored in self._pipeline(images if plan.slices > 1 else list(images)):
                studies = [self._of.pop(id(image)) for image in scored.of]
                if self._journal is not None:
                    rows = {key: of for (_, key), of in zip(studies, scored.images, strict=True) if key is not None}
                    self._journal.append(rows)
                for (study, _), image, of_image in zip(studies, scored.of, scored.images, strict=True):
                    study.answers |= answers_of(image, of_image)
                    study.left -= 1
                    self._done(study, len(of_image))
                    if not study.left:
                        self._finish(study)
                yield
        except DeviceFault as error:
            if self._journal is not None:
                self._journal.fault([h.path for image in self._pipeline.in_flight for h in image.headers], str(error))
            raise
        if self._journal is not None:
            self._journal.forget_all_but(self._keys)

    def _answered_before(self, plan: Plan, uid: str) -> bool:
        """Finish a study of which the journal has every image."""
        study = self._begin(plan, uid)
        if not study.todo:
            self._finish(study)
        return not study.todo

    def _todo(self, plan: Plan, uids: Iterable[str]) -> Iterator[SliceImage]:
        for uid in uids:
            study = self._begin(plan, uid)
            study.left = len(study.todo)
            self.processed += sum(len(image.headers) for _, image in study.todo)
            if not study.todo:
                self._finish(study)
            for key, image in study.todo:
                self._of[id(image)] = study, key
                yield image
            study.todo.clear()

    def _begin(self, plan: Plan, uid: str) -> ScoredStudy:
        """Plan a study, and take what the journal has of it."""
        study = ScoredStudy(uid, plan.study(uid))
        images = self._make_images(study.plan, self._spec)
        if self._journal is None:
            study.todo = [(None, image) for image in images]
            return study
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

    def _finish(self, study: ScoredStudy) -> None:
        self.resumed += study.resumed
        self._tell(study)
        self._done(study, sum(len(series.headers) for series in study.plan.series) - study.stepped)

    def _done(self, study: ScoredStudy, slices: int) -> None:
        study.stepped += slices
        self._step(slices)


def study_results(plan: Plan, pipeline: ImagePipeline, spec: PreprocessSpec, threshold: float) -> Iterator[StudyResult]:
    """Score a plan study by study; those with nothing to score come after the others.

    What belongs to no study (not DICOM, unreadable) is the last result, whose `study_uid` is empty; where there is no
    such file there is no such result.
    """
    scored: deque[ScoredStudy] = deque()
    empty: list[str] = []

    def finish(study: ScoredStudy) -> None:
        if study.answers:
            scored.append(study)
        elif study.uid or study.plan.rejected:
            empty.append(study.uid)

    for _ in StudyScorer(spec, pipeline, finish).batches(plan):
        while scored:
            yield scored.popleft().result(spec, threshold)
    for uid in sorted(empty, key=lambda uid: not uid):
        yield ScoredStudy(uid, plan.study(uid)).result(spec, threshold)

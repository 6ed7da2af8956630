"""A run into an output folder: plan, journal, and the result files.

The same command scores what is new below the folders, forgets what is gone and leaves the bytes that a run over the
folders as they are would leave. Another model, spec, configuration or version is another run, and is refused unless it
may overwrite.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import Configuration
from dtvit_edge.dicom.discover import Plan, discover
from dtvit_edge.dicom.walk import Walk, walk
from dtvit_edge.dicom.wording import compile_all
from dtvit_edge.progress import Progress, silent
from dtvit_edge.reasons import Status
from dtvit_edge.results import StudyScore
from dtvit_edge.scoring.api import Options, images_of, thresholds_of
from dtvit_edge.scoring.journal import FILE_NAME as JOURNAL
from dtvit_edge.scoring.journal import Journal
from dtvit_edge.scoring.opened import RunModel, model_from
from dtvit_edge.scoring.opening import Opening, begin_opening
from dtvit_edge.scoring.opening import resolve_for as resolve_for
from dtvit_edge.scoring.output_folder import RUN as RUN
from dtvit_edge.scoring.output_folder import SLICES as SLICES
from dtvit_edge.scoring.output_folder import STUDIES as STUDIES
from dtvit_edge.scoring.output_folder import held_folder
from dtvit_edge.scoring.result_files import ResultFiles
from dtvit_edge.scoring.run_report import RunFacts, run_report
from dtvit_edge.scoring.shards import FIELD, Shard, plan_digest, seal
from dtvit_edge.scoring.studies import StudyScorer
from dtvit_edge.scoring.study_output import StudyOutput, log_rejection

NOTHING_SCORED = 4  # exit status

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReport:
    """How a run ended.

    Attributes:
        counts: slices by status; reasons: slices by reason code.
        shard: the part that it was; None of all studies.
        resumed: slices taken from the journal; processed: slices of suitable series that were read and scored.
        plan: what was scored, for what is made of it beside the tables.
    """

    studies: tuple[StudyScore, ...]
    counts: dict[str, int]
    reasons: dict[str, int]
    resumed: int
    processed: int
    files: tuple[Path, ...]
    plan: Plan = field(repr=False, compare=False)
    shard: Shard | None = None

    @property
    def exit_status(self) -> int:
        """4 none scored, 3 some refused or failed, 0 every row scored or skipped and at least one scored.

        A shard to which no study fell has done its part: 0.
        """
        if self.shard and not self.counts:
            return 0
        if not self.counts.get(Status.SCORED):
            return NOTHING_SCORED
        return 3 if self.counts.get(Status.REFUSED) or self.counts.get(Status.ERROR) else 0


def make_plan(
    folders: Sequence[Path],
    out: Path | None,
    options: Options,
    progress: Progress = silent,
    check: Callable[[], None] = lambda: None,
) -> tuple[Walk, Plan]:
    """Walk and read headers; the output folder is left out where it lies inside.

    Args:
        check: called once a folder that is listed; it may raise what ends that.
    """
    walked = walk(folders, exclude=out, step=check)
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
    identify: bool = False,
    progress: Progress = silent,
    model: RunModel | Opening | None = None,
    shard: Shard | None = None,
) -> RunReport:
    """Score everything below the folders into `out`.

    Args:
        identify: `studies.csv` has the columns by which a study is found in a worklist.
        model: of the bundle, opened already or being opened; its options count, and it stays open.
        shard: score the studies of this one alone, for `cluster.merge`.

    Raises:
        ConfigError: a folder or backend that is not there, an output folder that cannot be written, is held by another
            process or holds another run; no file has been scored then.
        DeviceFault: the device failed; what was in flight is marked in the journal, a rerun finishes the job.
        DiskFault: the output cannot be written any more; a rerun finishes the job.
    """
    facts = RunFacts()
    with ExitStack() as stack:
        if model is None:
            model = begin_opening(bundle, resolve_for(bundle, out, options, overwrite=overwrite))
            stack.enter_context(model)
        watch: tuple[Any, ...] = (progress,)
        if isinstance(model, Opening):
            # Of a large archive headers take minutes, and over a share hours, after which a model that cannot be opened
            # would be said.
            watch = model.watched(progress), model.require_not_failed
            compile_all()
        with facts.timings.stage("discover"):
            walked, plan = make_plan(folders, out, model.options, *watch)
        opened = stack.enter_context(model_from(bundle, model)) if isinstance(model, Opening) else model
        seen = plan_digest(walked, plan) if shard else ""
        del walked  # it is large, and not needed any more
        if shard:
            plan = shard.part(plan)
        with open_output(bundle, opened, out, overwrite=overwrite, identify=identify, shard=shard) as output:
            return output.score(plan, facts, progress, seen=seen)


class Output:
    """An output folder that is held, and a model: plans are scored into it, one after the other."""

    def __init__(
        self,
        bundle: Bundle,
        model: RunModel,
        out: Path,
        identity: dict[str, Any],
        journal: Journal,
        identify: bool,
        shard: Shard | None,
    ) -> None:
        self._bundle = bundle
        self._model = model
        self._out = out
        self._identity = identity
        self._journal = journal
        self._identify = identify
        self._shard = shard

    def score(self, plan: Plan, facts: RunFacts, progress: Progress = silent, *, seen: str = "") -> RunReport:
        """Score what the journal does not have, and write the result files.

        Args:
            seen: of a shard's plan, `shards.plan_digest` of the whole one.
        """
        bundle, timings = self._bundle, facts.timings
        spec = bundle.manifest.spec
        files = ResultFiles(self._out, bundle.manifest.training, identify=self._identify)
        output = StudyOutput(files, spec, thresholds_of(bundle, self._model.options).study.value)
        with progress("slices", plan.slices) as step:
            pipeline = self._model.pipeline(bundle, timings=timings, rejected=log_rejection)
            scorer = StudyScorer(spec, pipeline, output.take, self._journal, make_images=images_of, step=step)
            for _ in scorer.batches(plan):
                if output.scores:  # rows of no study are no reason to write
                    files.write_if_due()
        studies = tuple(sorted(output.scores, key=lambda study: study.study_uid))
        for warning, count in output.warnings.items():
            log.warning("%s: %d series", warning, count)
        with timings.stage("write"):
            files.write()
        report = RunReport(
            studies,
            counts=dict(sorted(files.counts.items())),
            reasons=dict(sorted(files.reasons.items())),
            resumed=scorer.resumed,
            processed=scorer.processed,
            files=files.paths,
            plan=plan,
            shard=self._shard,
        )
        counts = {
            "slices": report.counts,
            "reasons": report.reasons,
            "warnings": output.warnings,
            "slices_resumed": report.resumed,
        }
        said = run_report(bundle, self._identity, self._model, studies, counts, facts)
        if self._shard:
            said[FIELD] = self._shard.mark(self._identity, seen, files.contents())
            seal(said)
        files.finish(said)
        return report


@contextmanager
def open_output(
    bundle: Bundle,
    model: RunModel,
    out: Path,
    *,
    overwrite: bool = False,
    identify: bool = False,
    shard: Shard | None = None,
) -> Iterator[Output]:
    """Open an output folder for a model of the bundle.

    Raises:
        ConfigError: as `run`.
    """
    identity = model.identity(bundle)
    of_journal = identity | {FIELD: str(shard)} if shard else identity  # else one shard would take over another's
    asked = vars(model.options) | {"batch": model.batch}
    configuration = {f.name: asked[f.name] for f in fields(Configuration)}
    with held_folder(out, overwrite=overwrite), Journal(out / JOURNAL, of_journal, configuration) as journal:
        yield Output(bundle, model, out, identity, journal, identify, shard)

"""What every way of scoring is made of: backend, executor, pipeline, and the results of studies.

`model.Model` keeps them open and answers study by study, `score` does that once, and `run.run` adds the output folder:
journal, resume and result files.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.discover import Plan
from dtvit_edge.dicom.images import images as images_in
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.results import SliceScore, StackScore, StudyScore
from dtvit_edge.scoring.aggregate import stack_score, study_score
from dtvit_edge.scoring.executor import CpuExecutor, Executor
from dtvit_edge.scoring.judgement import Key, judge, key
from dtvit_edge.scoring.opening import open_backend as open_backend
from dtvit_edge.scoring.options import Options as Options
from dtvit_edge.scoring.options import thresholds_of as thresholds_of
from dtvit_edge.scoring.pipeline import Pipeline, least_brain_share, rejected_row
from dtvit_edge.scoring.prefetch import default_workers
from dtvit_edge.scoring.proof import prove_chain
from dtvit_edge.spec import PreprocessSpec

if TYPE_CHECKING:
    from dtvit_edge.scoring.model import Model
    from dtvit_edge.trt.backend import EngineBackend


@dataclass(frozen=True)
class StudyResult:
    """One study: its score, those of the stacks that its suitable series make, and every row."""

    study: StudyScore
    stacks: tuple[StackScore, ...]
    slices: tuple[SliceScore, ...]


def score(
    bundle: Bundle, sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], options: Options | None = None
) -> Generator[StudyResult, None, None]:
    """Score once: an open model (`scoring.model`) for one call, study by study; those with nothing to score come last.

    Files that belong to no study are in no result; `Model.score` and `run.run` list them.

    Args:
        sources: as for `Model.score`.

    Raises:
        ConfigError: a path or a backend that is not there; before the first file.
        DeviceFault: the device failed.
    """
    from dtvit_edge.scoring.model import Model

    with ExitStack() as undo:
        model = undo.enter_context(Model(bundle, options or Options()))
        results = model.score(sources)
        undo.pop_all()
    return _studies_of(model, results)


def testable(bundle: Bundle, name: str) -> list[str]:
    """Precisions that a backend can run of this copy of a bundle: those of its models, or of its engines."""
    if backends.runs_engines(name):
        from dtvit_edge.trt.store import engine_precisions

        return engine_precisions(bundle, name)
    return sorted(set(bundle.present).intersection(backends.precisions(name)))


@contextmanager
def open_executor(bundle: Bundle, backend: Backend, options: Options) -> Iterator[Executor]:
    """The executor of an opened backend. What has had no self-test has it here, before it answers anything.

    Raises:
        VerdictError: it fails.
    """
    spec = bundle.manifest.spec
    if not backend.proven:
        prove_chain(bundle, backend, sorted({1, backend.batch}))
    if not backend.on_gpu:
        share = least_brain_share(bundle.manifest, options.keep_all)
        padded = options.deterministic or options.hint == "bf16"
        yield CpuExecutor(spec, backend, share, options.batch or backend.batch, padded=padded)
        return
    from dtvit_edge.scoring.gpu_executor import GpuExecutor

    engine = cast("EngineBackend", backend)
    with GpuExecutor(spec, engine, options.batch or backend.batch, fixed=options.deterministic) as executor:
        yield executor


def make_pipeline(bundle: Bundle, executor: Executor, options: Options, **more: Any) -> Pipeline:
    """The pipeline that the options ask for; `more` goes to it as it is."""
    return Pipeline(
        bundle.manifest,
        executor,
        thresholds_of(bundle, options).slice.value,
        keep_all=options.keep_all,
        fast=options.fast,
        workers=options.workers or default_workers(),
        **more,
    )


def images_of(plan: Plan, spec: PreprocessSpec) -> list[SliceImage]:
    """What the model is shown of suitable series, study by study."""
    return [image for stack in plan.stacks(spec.thickness_mm) for image in images_in(stack, spec.thickness_mm)]


def headers_of(plan: Plan) -> list[SliceHeader]:
    """The slices of suitable series, in the plan's order."""
    return [header for series in plan.series if series.refusal is None for header in series.headers]


def answers_of(image: SliceImage, rows: Sequence[SliceScore]) -> dict[Key, SliceScore]:
    """An image's rows by slice."""
    return {key(header): row for header, row in zip(image.headers, rows, strict=True)}


def study_result(plan: Plan, answers: Mapping[Key, SliceScore], spec: PreprocessSpec, threshold: float) -> StudyResult:
    """Put one study together.

    Args:
        plan: the study's part of the plan.
        answers: what became of its slices in the pipeline.
    """
    judged, rows = judge(plan.stacks(spec.thickness_mm), answers)
    stacks = [(j, stack_score(j, top_places=spec.top_places) if j.is_plausible else None) for j in judged]
    refused = [rejected_row(h, s.refusal) for s in plan.series if s.refusal is not None for h in s.headers]
    everything = [*rows.values(), *refused, *(rejected_row(rejection, rejection.reason) for rejection in plan.rejected)]
    study_uid = plan.study_uids[0]
    study = study_score(
        study_uid,
        stacks,
        everything,
        threshold=threshold,
        patients=plan.patients.get(study_uid, 1),
        unread=study_uid in plan.touched,
    )
    return StudyResult(study, tuple(score for _, score in stacks if score is not None), tuple(everything))


def _studies_of(model: Model, results: Iterable[StudyResult]) -> Generator[StudyResult, None, None]:
    with model:
        for result in results:
            if result.study.study_uid:
                yield result

"""What the fp32 model of a bundle says of a labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import backends
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.errors import VerdictError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.scoring.api import Options, open_backend
from dtvit_edge.scoring.pipeline import probabilities
from dtvit_edge.spec import ICH_OUTPUT
from evaluation.images import WINDOWED_SUFFIXES, prepare_image
from evaluation.labels import LabelledSlice

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredSlices:
    """What fp32 says of the slices of a labelled set, in its order.

    Attributes:
        probability, logit: (N,) of a haemorrhage; NaN where the runtime would skip the slice, which shows no brain.
        backend: what computed them.
        top_places: over how many of the highest a study's probability is the mean.
        thin: how many of the files are slices that the runtime would average with their neighbours.
    """

    slices: tuple[LabelledSlice, ...]
    probability: Probabilities
    logit: Probabilities
    backend: dict[str, str]
    top_places: int
    thin: int = 0


def score_labelled(bundle: Bundle, slices: Sequence[LabelledSlice], *, progress: Progress = silent) -> ScoredSlices:
    """The fp32 model's answers for a labelled set, on the first backend here that runs models as they are.

    Raises:
        ConfigError: an image that cannot be read, or no such backend.
        BundleError: a copy of the bundle without the fp32 file.
        VerdictError: an answer that is not finite.
    """
    spec = bundle.manifest.spec
    logit = np.full(len(slices), np.nan)
    probability = np.full(len(slices), np.nan)
    runs_models = [n for n, why_not in backends.availability().items() if not why_not and not backends.runs_engines(n)]
    with (
        open_backend(
            bundle, (runs_models or [backends.choose().name])[0], Options(precision=REFERENCE_PRECISION)
        ) as backend,
        progress("scoring labelled slices", len(slices)) as step,
    ):
        for start in range(0, len(slices), backend.batch):
            places = range(start, min(start + backend.batch, len(slices)))
            prepared = {i: prepare_image(slices[i].file, spec, crop=True) for i in places}
            shown = [i for i in places if prepared[i].brain_share >= spec.min_brain_share]
            if shown:
                logits = backend.infer(np.stack([prepared[i].pixels for i in shown]))
                if not all(np.isfinite(values).all() for values in logits.values()):
                    raise VerdictError("a logit of the labelled set is not finite; see `dtvit-edge verify`")
                values = logits[ICH_OUTPUT].astype(np.float64)
                logit[shown] = values[:, 1] - values[:, 0]
                probability[shown] = [ich for ich, _ in probabilities(logits)]
            step(len(places))
        thin = sum(_is_thin(s.file, spec.thickness_mm) for s in slices)
        return ScoredSlices(tuple(slices), probability, logit, backend.describe(), spec.top_places, thin)


def _is_thin(file: Path, thickness_mm: float) -> bool:
    """Whether `dtvit_edge.dicom.images` would make one image of a slice and its neighbours; a picture is not asked."""
    if file.suffix.lower() in WINDOWED_SUFFIXES:
        return False
    return 0 < (read_headers(file, file.name)[0].thickness_mm or 0) < thickness_mm / 2

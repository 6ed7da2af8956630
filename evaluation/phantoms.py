"""A labelled set of phantoms, rendered straight to the bytes between resize and crop: no gigabytes of DICOM on the way.

The bytes are the ones that the DICOM files would give: stored values are the phantom's HU, and everything after that is
the runtime's own preprocessing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.phantom import plan_study, render_slice
from dtvit_edge.phantom.study import PhantomSlice
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import LOCATION_LABELS, PixelEncoding, PreprocessSpec, digest_json
from evaluation.images import ImageSet, in_workers
from evaluation.labels import LabelledSlice

ENCODING = PixelEncoding()  # signed 16 bits, HU as stored
GENERATION = 1  # to be raised whenever phantoms come to look different: it is part of the data's digest


@dataclass(frozen=True)
class PhantomSet:
    """Names a set of phantoms.

    Attributes:
        studies: each is one patient, with a haemorrhage; the locations take turns.
        first_seed: of consecutive seeds; sets whose seeds do not overlap share no head.
        positives, negatives: slices with and without haemorrhage drawn from each study: a few of many heads teach more
            than many of a few.
    """

    studies: int
    first_seed: int
    positives: int = 3
    negatives: int = 3

    @property
    def digest(self) -> str:
        """Names the set; the spec is part of a run's identity by itself."""
        return digest_json({"phantoms": [GENERATION, self.studies, self.first_seed, self.positives, self.negatives]})


def load_phantoms(
    chosen: PhantomSet,
    spec: PreprocessSpec,
    *,
    crop: bool = False,
    workers: int = 1,
    step: Callable[[int], None] = lambda count: None,
) -> ImageSet:
    """Render a set: images (C, 256, 256) uint8, or (C, 224, 224) with `crop`; slices without brain are left out.

    Args:
        step: called with the number of studies just done.
    """
    slices: list[LabelledSlice] = []
    images: list[NDArray[np.uint8]] = []
    masks: list[NDArray[np.uint8]] = []
    numbers = range(chosen.first_seed, chosen.first_seed + chosen.studies)
    render = partial(_render, chosen=chosen, spec=spec, crop=crop)
    for study in in_workers(render, numbers, workers, chunk=4):
        for labelled, image, mask in study:
            slices.append(labelled)
            images.append(image)
            masks.append(mask)
        step(1)
    return ImageSet(slices, images, chosen.digest, masks)


def render_again(labelled: LabelledSlice) -> NDArray[np.uint16]:
    """The stored pixels (512, 512) of one slice of a set, by its name."""
    _, seed, index = labelled.path.split("-")
    rendered = render_slice(plan_study(int(seed), _location_of(int(seed))), int(index))
    return _stored(rendered)


def _location_of(seed: int) -> str:
    return LOCATION_LABELS[seed % len(LOCATION_LABELS)]


def _stored(rendered: PhantomSlice) -> NDArray[np.uint16]:
    """HU as raw 16-bit patterns."""
    return np.ascontiguousarray(rendered.hu).view(np.uint16)


def _render(
    seed: int, chosen: PhantomSet, spec: PreprocessSpec, crop: bool
) -> list[tuple[LabelledSlice, NDArray[np.uint8], NDArray[np.uint8]]]:
    cv2.setNumThreads(1)
    prepare = CpuPreprocessor(spec)
    plan = plan_study(seed, _location_of(seed))
    negative = [i for i in range(plan.slice_count) if i not in plan.positive]
    rng = random.Random(seed)
    indices = [
        *rng.sample(plan.positive, min(chosen.positives, len(plan.positive))),
        *rng.sample(negative, min(chosen.negatives, len(negative))),
    ]
    rendered_slices = []
    for index in sorted(indices):
        rendered = render_slice(plan, index)
        prepared = prepare(_stored(rendered), ENCODING, crop=crop)
        if prepared.brain_share < spec.min_brain_share:
            continue  # the runtime would skip it
        location = LOCATION_LABELS.index(rendered.location) if rendered.location else None
        name = f"phantom-{seed}-{index}"
        labelled = LabelledSlice(Path(name), name, f"phantom-{seed}", rendered.ich, location)
        mask = _mask_of(rendered.haemorrhage, spec, prepared.pixels.shape[1])
        rendered_slices.append((labelled, prepared.pixels, mask))
    return rendered_slices


def _mask_of(haemorrhage: NDArray[np.bool_], spec: PreprocessSpec, size: int) -> NDArray[np.uint8]:
    """The blood's mask (size, size) on the grid of the prepared image: resized as that was, cropped if that was."""
    whole = spec.resize or haemorrhage.shape[0]
    mask = cv2.resize(haemorrhage.astype(np.uint8), (whole, whole), interpolation=cv2.INTER_AREA)
    start = round((whole - size) / 2)
    return np.ascontiguousarray(mask[start : start + size, start : start + size])

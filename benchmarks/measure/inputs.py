"""The slices that give the accuracy, and the folders that are scored: given ones, or phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.settings import Settings
from dtvit_edge.dicom.discover import Plan, discover
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import write_phantoms
from dtvit_edge.progress import Progress, silent
from dtvit_edge.scoring.api import headers_of
from dtvit_edge.spec import PreprocessSpec, digest_bytes, digest_file, digest_json
from evaluation.gate import SliceLabels
from evaluation.image_sets import phantom_set, stored_pixels
from evaluation.phantoms import load_phantoms
from evaluation.sampling import SliceSet, candidates, load_set

STUDIES_SEED = 8_500_000
GIVEN_SLICES = "given slices"


@dataclass(frozen=True)
class Inputs:
    """What a bundle is measured on.

    Attributes:
        slices_judged: they give the accuracy; data, studies: what a report calls them and the folders.
        plan: of the folders.
    """

    slices_judged: SliceSet
    data: str
    folders: list[Path]
    plan: Plan
    studies: str

    @property
    def headers(self) -> list[SliceHeader]:
        """Every slice of the folders that is scored."""
        return headers_of(self.plan)

    @property
    def middle(self) -> SliceHeader:
        """A slice in the middle of the first suitable series: it shows brain."""
        headers = next(series.headers for series in self.plan.series if series.refusal is None)
        return headers[len(headers) // 2]

    @property
    def files_of_a_study(self) -> list[Path]:
        """The files of the study of that slice."""
        study = self.middle.identity.study_uid
        return sorted({header.file for header in self.headers if header.identity.study_uid == study})


def evaluation_slices(spec: PreprocessSpec, settings: Settings, progress: Progress = silent) -> tuple[SliceSet, str]:
    """The set that gives the accuracy, and what a report may call it: no path, which could carry a patient's name.

    Raises:
        ConfigError: nothing usable, or phantoms among other sources.
    """
    texts = settings.slices or (settings.effort.phantoms,)
    drawn = [phantoms for text in texts if (phantoms := phantom_set(text))]
    if drawn:
        if len(texts) > 1:
            raise ConfigError("--slices takes one set of phantoms, or folders and CSVs")
        with progress("drawing phantoms", drawn[0].studies) as step:
            data = load_phantoms(drawn[0], spec, crop=True, step=step)
        chosen = range(min(len(data.slices), settings.effort.slices))
        images = [data.images[i] for i in chosen]
        rows = [data.slices[i] for i in chosen]
        labels = SliceLabels(
            tuple(digest_bytes(image.tobytes()) for image in images),
            tuple(row.patient for row in rows),
            np.array([-1 if row.ich is None else int(row.ich) for row in rows]),
            np.array([-1 if row.location is None else row.location for row in rows]),
        )
        return SliceSet(np.stack(images), labels, tuple(partial(stored_pixels, row) for row in rows)), texts[0]
    given = candidates([Path(text) for text in texts], progress=progress)
    sliced = load_set(given, settings.effort.slices, spec, seed=settings.seed, name="test", progress=progress)
    return sliced, GIVEN_SLICES


def set_digest(slices: SliceSet) -> str:
    """Identity of a set: the digests of its slices' model bytes, in order."""
    return digest_json(slices.labels.digests)


def study_folders(settings: Settings, scratch: Path, progress: Progress = silent) -> tuple[list[Path], str]:
    """The folders that are scored from end to end, and what a report may call them."""
    if settings.studies:
        return list(settings.studies), "given studies"
    count = settings.effort.studies
    with progress("writing phantoms", count) as step:
        write_phantoms(scratch, count, STUDIES_SEED, progress=lambda: step(1))
    folders = sorted(path for path in scratch.iterdir() if path.is_dir())
    return folders, f"{count} phantom studies, seed {STUDIES_SEED}"


def discover_slices(folders: Sequence[Path], *, any_series: bool = True) -> Plan:
    """What a run over the folders scores; with `any_series` what a plain script does as well.

    Raises:
        ConfigError: no slice, so that there is nothing to time.
    """
    plan = discover(walk(list(folders)), any_series=any_series)
    if not headers_of(plan):
        series = "series" if any_series else "suitable series"
        raise ConfigError(f"no slice of a {series} lies below the studies that were given; there is nothing to measure")
    return plan


def studies_digest(plan: Plan) -> str:
    """Identity of the studies: the bytes of every slice that is scored."""
    return digest_json(sorted(digest_file(header.file) for header in headers_of(plan)))

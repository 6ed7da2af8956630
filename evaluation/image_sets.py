"""Loads labelled image sets: from a CSV over files, or from `phantoms:STUDIES`, rendered straight to bytes."""

from __future__ import annotations

import re
from pathlib import Path

from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import PreprocessSpec
from evaluation.images import ImageSet, StoredSlice, load_images, read_image
from evaluation.labels import LabelledSlice, labels_digest, read_labels
from evaluation.phantoms import ENCODING, PhantomSet, load_phantoms, render_again

PHANTOMS = re.compile(r"phantoms:(\d{1,6})(?:@(\d{1,9}))?")
FIRST_SEED = 1_000_000  # of phantoms to train on; `phantom` counts from 0, so that they share no head


def phantom_set(text: str) -> PhantomSet | None:
    """The set that `phantoms:1200` or `phantoms:300@9000000` (with a first seed) names; None for any other text.

    Raises:
        ConfigError: the text begins with `phantoms:` and names no set.
    """
    if not text.startswith("phantoms:"):
        return None
    match = PHANTOMS.fullmatch(text)
    if not match or not int(match[1]):
        raise ConfigError(f"{text!r}: expected phantoms:STUDIES or phantoms:STUDIES@FIRST_SEED")
    return PhantomSet(int(match[1]), int(match[2] or FIRST_SEED))


def load_image_set(text: str, spec: PreprocessSpec, *, workers: int = 1, progress: Progress = silent) -> ImageSet:
    """Every slice of a labelled set as bytes between resize and crop.

    Args:
        text: a CSV `path, patient, ich, location`, or a phantom set's name.

    Raises:
        ConfigError: neither, or rows and images that cannot be used.
    """
    if chosen := phantom_set(text):
        with progress("rendering", chosen.studies) as step:
            return load_phantoms(chosen, spec, workers=workers, step=step)
    slices = read_labels(Path(text))
    with progress("reading", len(slices)) as step:
        return ImageSet(slices, load_images(slices, spec, workers=workers, step=step), labels_digest(slices))


def stored_pixels(labelled: LabelledSlice) -> StoredSlice:
    """The slice's (rows, columns) uint16 as stored, before any preprocessing.

    Raises:
        ConfigError: the file is no longer readable.
    """
    if labelled.file.is_file():
        return read_image(labelled.file)
    return render_again(labelled), ENCODING

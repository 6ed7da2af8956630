"""Slices for the stages: those of the studies, as many as are wanted, larger ones and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.stages import NotHere
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.dicom.walk import walk
from dtvit_edge.scoring.api import headers_of
from dtvit_edge.spec import MAX_MATRIX

# Shares of black pixels strewn into a bright field.
_HOLES = (0.0, 0.0005, 0.002, 0.01, 0.02, 0.05, 0.5)
# One black column in ten leaves lines one pixel wide after erosion with a disk nine wide: 25,000 runs of pixels in a
# matrix of 512 x 512, far more than the kernel labels.
_STRIPE = 10


def study_slices(settings: Settings) -> list[Slice]:
    """The slices of suitable series below the studies.

    Raises:
        NotHere: there is none.
    """
    reader = SliceReader()
    slices = [reader.read(h) for h in headers_of(discover(walk([Path(f) for f in settings.studies])))]
    if not slices:
        raise NotHere("no slice of a suitable series is below the studies")
    return slices


def repeated(slices: Sequence[Slice], count: int) -> list[Slice]:
    """That many, from the first on and over again."""
    return list(islice(cycle(slices), count))


def enlarged(slices: Sequence[Slice]) -> list[Slice]:
    """The same with every pixel repeated, up to the largest matrix that the spec takes."""
    larger = []
    for slice_ in slices:
        factor = max(1, MAX_MATRIX // max(slice_.stored.shape))
        stored = np.ascontiguousarray(slice_.stored.repeat(factor, axis=0).repeat(factor, axis=1))
        header = replace(slice_.header, rows=stored.shape[0], columns=stored.shape[1])
        larger.append(Slice(header, stored))
    return larger


def noise(like: Slice) -> list[Slice]:
    """Bright fields with black pixels strewn in, one with stripes, and patterns drawn from all 65,536.

    Args:
        like: gives size and encoding.
    """
    rng = np.random.default_rng(14)
    encoding = like.header.encoding
    bright = round((200 - encoding.intercept) / encoding.slope)
    dark = max(round((-1000 - encoding.intercept) / encoding.slope), -(1 << 15) if encoding.signed else 0)
    fields = [np.where(rng.random(like.stored.shape) < share, dark, bright) for share in _HOLES]
    columns = np.arange(like.stored.shape[1])
    fields.append(np.broadcast_to(np.where(columns % _STRIPE == 0, dark, bright), like.stored.shape))
    fields.append(rng.integers(0, 1 << 16, like.stored.shape))
    return [Slice(like.header, np.ascontiguousarray(field.astype(np.int64).astype(np.uint16))) for field in fields]

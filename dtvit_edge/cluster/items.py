"""Work items: runs of images for one worker, and what becomes of one whose worker was lost.

A worker that ends (killed by a file that its reader cannot stand, by memory, with its machine) takes innocent items
with it. So what was under way goes again, alone on a worker; what ends that one too is halved, down to an image. One
that three workers did not survive alone is at fault, and its slices become rows of `decoder_lost`, which a rerun tries
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from dtvit_edge import reasons
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.reasons import REASONS, Status
from dtvit_edge.results import SliceScore
from dtvit_edge.scoring.pipeline import ScoredBatch, rejected_row

# So many workers in a row lost with one image are no chance: machines that vanish seldom meet the same one.
MOST_LOSSES = 3
# A device that fails thrice on one item, on workers that began anew, is no passing fault.
MOST_FAULTS = 3


@dataclass(frozen=True)
class Item:
    """A run of images.

    Attributes:
        images: at least one; first: the number of the first among those given.
        losses: workers that ended while they had it; faults: devices that failed on it.
    """

    images: tuple[SliceImage, ...]
    first: int
    losses: int = 0
    faults: int = 0

    @property
    def is_suspect(self) -> bool:
        """It goes alone: nothing else may end with its worker."""
        return self.losses + self.faults > 0

    def after_loss(self) -> list[Item]:
        """What to try next where its worker was lost; empty where it is at fault itself."""
        losses = self.losses + 1
        if len(self.images) == 1:
            return [] if losses >= MOST_LOSSES else [replace(self, losses=losses)]
        if losses == 1:
            return [replace(self, losses=1)]
        middle = len(self.images) // 2
        return [
            Item(self.images[:middle], self.first, 1, self.faults),
            Item(self.images[middle:], self.first + middle, 1, self.faults),
        ]

    def after_fault(self) -> Item | None:
        """What to try next where a device failed; None where it has failed often enough."""
        faults = self.faults + 1
        return None if faults >= MOST_FAULTS else replace(self, faults=faults)

    def batch(self, rows: Sequence[tuple[SliceScore, ...]]) -> ScoredBatch:
        """Its answer, as a pipeline gives it."""
        return ScoredBatch(self.images, tuple(range(self.first, self.first + len(self.images))), tuple(rows))

    def lost(self) -> ScoredBatch:
        """The answer of what is at fault itself."""
        return self.batch(
            [
                tuple(rejected_row(header, reasons.DECODER_LOST, place=image.place) for header in image.headers)
                for image in self.images
            ]
        )

    def answered(self, rows: Any) -> ScoredBatch | None:
        """Its answer, if a worker's rows are one: of each image every slice once, each as a row can be; else None."""
        if not isinstance(rows, (list, tuple)) or len(rows) != len(self.images):
            return None
        if not all(_fits(image, of_image) for image, of_image in zip(self.images, rows, strict=True)):
            return None
        return self.batch([tuple(of_image) for of_image in rows])


def items_of(images: Iterable[SliceImage], size: int) -> Iterator[Item]:
    """Items of so many images, taken one by one as they are asked for."""
    source, first = iter(images), 0
    while taken := tuple(islice(source, size)):
        yield Item(taken, first)
        first += len(taken)


def _fits(image: SliceImage, rows: Any) -> bool:
    return (
        isinstance(rows, (list, tuple))
        and len(rows) == len(image.headers)
        and all(
            isinstance(row, SliceScore)
            and (row.study_uid, row.series_uid, row.sop_uid)
            == (header.identity.study_uid, header.identity.series_uid, header.identity.sop_uid)
            and (row.frame, row.path, row.place) == (header.frame, header.path, image.place)
            and _is_possible(row)
            for header, row in zip(image.headers, rows, strict=True)
        )
    )


def _is_possible(row: SliceScore) -> bool:
    if row.status is not Status.SCORED:
        return row.reason in REASONS and REASONS[row.reason].status is row.status and row.ich_probability is None
    shares = (row.ich_probability, *(row.location_probabilities or ()))
    return row.reason == "" and isinstance(row.ich, bool) and all(isinstance(p, float) and 0 <= p <= 1 for p in shares)

"""The highest images of a study: read again, drawn in the brain window, and asked where hiding changes the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.report.evidence import Evidence, evidence
from dtvit_edge.report.pictures import BrainWindow, drawings
from dtvit_edge.report.study_view import HighImage, StripCell
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.image_reading import ImageReader
from dtvit_edge.scoring.timings import Timings
from dtvit_edge.spec import PreprocessSpec

# Between the answer now and the one in the results: four decimals, and what a GPU's batches change.
SAME_ANSWER = 0.005
# Sides of pictures in pixels: of those with maps, which people look at closely, and of the others. Noise alone has
# 0.27 MB as a picture of the first kind: three of them, and all else, fit into the megabyte that a page may have.
FINE, COARSE = 448, 224


class HighImages:
    """Makes the pictures and maps of a run's studies.

    Args:
        executor: gives the one that answered, once there is a map to make; None leaves the maps out.
        threshold: of a slice's probability, at or above which it has a map.
        untrained_heads: of the bundle.
        reader: of slices.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        executor: Callable[[], Executor] | None,
        reader: ParallelReader,
        threshold: float,
        *,
        untrained_heads: Sequence[str] = (),
    ) -> None:
        self.maps = self.passes = 0
        self._spec = spec
        self._open = executor
        self._executor: Executor | None = None
        self._threshold = threshold
        self._untrained = untrained_heads
        self._read = ImageReader(reader, cast(Executor, _AsItIs()), spec.least_side, Timings())
        self._fine, self._coarse = BrainWindow(spec, FINE), BrainWindow(spec, COARSE)

    def __call__(self, cells: Sequence[StripCell]) -> list[HighImage]:
        """The pictures of some images; maps beside those that are positive.

        Raises:
            DeviceFault: the device failed.
        """
        return [self._one(cell) for cell in cells]

    def _one(self, cell: StripCell) -> HighImage:
        positive = (cell.probability or 0.0) >= self._threshold
        read = self._read(cell.image)
        if not isinstance(read.prepared, Slice):
            return HighImage(cell, "", (), "The image cannot be read again.")
        try:
            picture = (self._fine if positive else self._coarse)(read.prepared)
        except Exception as error:  # no image ends a report
            return HighImage(cell, "", (), f"The image cannot be drawn: {type(error).__name__}.")
        if not positive:
            return HighImage(cell, picture, ())
        if self._executor is None and self._open is not None:
            self._executor = self._open()
        if self._executor is None:
            return HighImage(cell, picture, (), "No map: the bundle was not given to the report.")
        pixels = self._executor.prepared_bytes([read.prepared])[0]
        found = evidence(self._executor, pixels, self._spec, self._untrained)
        if found is None:
            return HighImage(cell, picture, (), "No map: no brain in view that could hide anything.")
        self.passes += found.passes
        if abs(_probability(found) - (cell.probability or 0.0)) > SAME_ANSWER:
            return HighImage(
                cell, picture, (), f"No map: asked again, the model answers {_probability(found):.4f}, not as in the "
                "results. The file or the machine is not what it was."
            )  # fmt: skip
        self.maps += 1
        return HighImage(cell, picture, tuple(drawings(found, pixels)))


class _AsItIs:
    """What `ImageReader` hands images to: they are wanted as they are stored."""

    def prepare(self, slice_: Slice) -> Slice:
        return slice_


def _probability(found: Evidence) -> float:
    return 1 / (1 + math.exp(-min(max(found.ich.answer, -700.0), 700.0)))

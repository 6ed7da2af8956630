"""From an image of the plan to what an executor takes: its slices read, measured and, where they are thin, averaged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dtvit_edge import reasons
from dtvit_edge.dicom.lost_pixels import check_lost
from dtvit_edge.dicom.pixels import anything_rejects
from dtvit_edge.dicom.plausibility import check_bits, is_too_high, measure
from dtvit_edge.dicom.slice import Slice, SliceHeader, SliceImage
from dtvit_edge.errors import DeviceFault, SliceRejected
from dtvit_edge.preprocess.averaging import AVERAGED, Average
from dtvit_edge.results import PixelMeasures
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.timings import Timings


class Reader(Protocol):
    """What gives a header's pixels, to any thread: of files `ParallelReader`."""

    def read(self, header: SliceHeader) -> Slice:
        """See `SliceReader.read`."""
        ...


@dataclass(frozen=True)
class ReadImage:
    """An image that was read.

    Attributes:
        prepared: what the executor takes; None where none of its slices can be used.
        slices: in the order of the image's headers, what each one's pixels say, or why it cannot be used.
    """

    prepared: Any | None
    slices: tuple[PixelMeasures | SliceRejected, ...]


class ImageReader:
    """Reads images, from any thread; of one under way it holds one slice and a sum, however many it averages.

    Args:
        executor: its part that any thread may do ahead is done here.
        least_side: the shortest side of a matrix that the spec takes.
    """

    def __init__(self, reader: Reader, executor: Executor, least_side: int, timings: Timings) -> None:
        self._reader = reader
        self._executor = executor
        self._least_side = least_side
        self._timings = timings

    def __call__(self, image: SliceImage) -> ReadImage:
        """Read an image. One slice alone passes as it is stored; of several the mean is taken.

        Slices that are not readable, constant, or too high for HU are left out of the mean, unless all of them are.
        """
        size = _usual_size(image)
        average, single = Average(), None
        slices: list[PixelMeasures | SliceRejected] = []
        averaged: list[SliceHeader] = []
        for header in image.headers:
            try:
                slice_, measures = self._read(header, size)
            except SliceRejected as error:
                slices.append(error)
                continue
            slices.append(measures)
            is_sound = not measures.constant and not is_too_high(measures)
            if single is None or (is_sound and not averaged):
                single = slice_
            if len(image.headers) > 1 and is_sound:
                averaged.append(header)
                with self._timings.stage("preprocess"):
                    average.add(slice_.stored, header.encoding)
        if single is None:
            return ReadImage(None, tuple(slices))
        with self._timings.stage("preprocess"):
            if len(averaged) > 1:
                single = Slice(replace(averaged[len(averaged) // 2], encoding=AVERAGED), average.stored())
            try:
                return ReadImage(self._executor.prepare(single), tuple(slices))
            except DeviceFault:
                raise
            except Exception as error:  # no image ends a run
                failure = SliceRejected(reasons.DECODE_FAILED, type(error).__name__)
                return ReadImage(None, (failure,) * len(slices))

    def _read(self, header: SliceHeader, size: tuple[int, int]) -> tuple[Slice, PixelMeasures]:
        found = f"{header.rows} x {header.columns}"
        if min(header.rows, header.columns) < self._least_side:
            raise SliceRejected(reasons.MATRIX_SIZE, f"{found}, the spec crops without resize")
        if (header.rows, header.columns) != size:
            raise SliceRejected(reasons.MATRIX_SIZE, f"{found} among slices of {size[0]} x {size[1]} to be averaged")
        with self._timings.stage("read"):
            slice_ = self._reader.read(header)
        with self._timings.stage("measure"), anything_rejects():
            check_bits(slice_)
            check_lost(slice_)
            return slice_, measure(slice_.stored, header.encoding)


def _usual_size(image: SliceImage) -> tuple[int, int]:
    """Rows and columns of most of its slices; of equally many the first ones'."""
    return Counter((h.rows, h.columns) for h in image.headers).most_common(1)[0][0]

"""Prepares the images of a labelled set as bytes between resize and crop, by the runtime's preprocessing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.preprocess.cpu import CpuPreprocessor, PreparedSlice
from dtvit_edge.spec import WINDOWED_8_BIT, PixelEncoding, PreprocessSpec
from evaluation.labels import LabelledSlice

WINDOWED_SUFFIXES = (".png", ".jpg", ".jpeg")  # 8-bit images that are windowed already
_CHUNK = 16

# Pixels (rows, columns) uint16 as stored, and what they mean.
StoredSlice = tuple[NDArray[np.uint16], PixelEncoding]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageSet:
    """Prepared images and their labels, in the same order.

    Attributes:
        images: (C, h, w) uint8 each, of the slice at the same place.
        digest: identity of the set.
        masks: (h, w) uint8 each, 1 where the haemorrhage is; None where nobody outlined any.
    """

    slices: Sequence[LabelledSlice]
    images: Sequence[NDArray[np.uint8]]
    digest: str
    masks: Sequence[NDArray[np.uint8]] | None = None


def in_workers(call: Callable[[Item], Result], items: Iterable[Item], workers: int, *, chunk: int) -> Iterator[Result]:
    """`map` over processes, in order; one worker stays in this process.

    Fresh interpreters: a fork of a process in which PyTorch or OpenCV have threads can hang for ever.
    """
    if workers == 1:
        yield from map(call, items)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(call, items, chunksize=chunk)


def read_image(file: Path) -> StoredSlice:
    """The stored pixels (rows, columns) uint16 of a DICOM slice, or of an 8-bit image that is windowed already.

    Raises:
        ConfigError: the file is no slice or image that could be used.
    """
    if file.suffix.lower() in WINDOWED_SUFFIXES:
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8:
            raise ConfigError(f"{file}: not readable as an 8-bit image")
        if image.ndim == 3:
            image = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY)
        return image.astype(np.uint16), WINDOWED_8_BIT
    try:
        headers = read_headers(file, file.name)
        if len(headers) != 1:
            raise ConfigError(f"{file}: {len(headers)} frames; a row labels one slice")
        return ParallelReader().read(headers[0]).stored, headers[0].encoding
    except SliceRejected as error:
        raise ConfigError(f"{file}: {error}") from error


def read_slice(header: SliceHeader) -> StoredSlice:
    """The stored pixels of a slice that was discovered already.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return ParallelReader().read(header).stored, header.encoding
    except SliceRejected as error:
        raise ConfigError(f"{header.file}: {error}") from error


def prepare_image(file: Path, spec: PreprocessSpec, *, crop: bool = False) -> PreparedSlice:
    """One image through `CpuPreprocessor`.

    Raises:
        ConfigError: the file is no slice or image that could be used.
    """
    try:
        return CpuPreprocessor(spec)(*read_image(file), crop=crop)
    except SliceRejected as error:
        raise ConfigError(f"{file}: {error}") from error


def load_images(
    slices: Sequence[LabelledSlice],
    spec: PreprocessSpec,
    *,
    workers: int = 1,
    step: Callable[[int], None] = lambda n: None,
) -> list[NDArray[np.uint8]]:
    """Every image as (C, h, w) uint8 with the shorter side at `spec.resize`, in the order of `slices`.

    Args:
        workers: processes; 1 stays in this one.
        step: called with the number of images just done.

    Raises:
        ConfigError: an image that cannot be used; it is named.
    """
    load = partial(_load, spec=spec)
    files = [s.file for s in slices]
    images: list[NDArray[np.uint8]] = []
    for image in in_workers(load, files, workers, chunk=_CHUNK):
        images.append(image)
        step(1)
    return images


def _load(file: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    cv2.setNumThreads(1)
    return prepare_image(file, spec).pixels

"""Plain and RLE frames, read at their place in the file: one frame is in memory, however many the file has."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.dicom.encapsulation import ITEM, only_fragment
from dtvit_edge.dicom.fast_header import header_digest
from dtvit_edge.dicom.planned_file import FileState, open_planned
from dtvit_edge.dicom.slice import PixelLocation
from dtvit_edge.errors import SliceRejected

_ITEM_TAG = struct.pack("<HH", ITEM >> 16, ITEM & 0xFFFF)


def read_pixels(
    file: Path, place: PixelLocation, rows: int, columns: int, state: FileState | None = None
) -> NDArray[np.uint16] | None:
    """The patterns, (rows, columns) uint16; None where they cannot be read, and pydicom's way says why.

    Uncompressed ones of 16 bits are a read-only view of the bytes that were read; RLE is decoded by pylibjpeg-rle.

    Raises:
        SliceRejected: the file is not in this state, or has another header.
    """
    try:
        with open_planned(file, state) as stream:
            start = stream.read(place.header_length)
            if place.offset != place.header_length:
                stream.seek(place.offset)
            data = stream.read(place.length)
    except OSError:
        return None
    if header_digest(start) != place.header_digest:
        raise SliceRejected(reasons.NOT_THE_PLANNED)
    dtype = np.dtype(place.dtype)
    if place.rle:
        from rle import decode_pixel_data

        frame = only_fragment(data) if data.startswith(_ITEM_TAG) else data
        if frame is None:
            return None  # cut off, in several fragments, or something behind it
        try:
            bits = 8 * dtype.itemsize
            data = decode_pixel_data(frame, version=2, rows=rows, columns=columns, bits_allocated=bits)
        except BaseException as error:
            if not is_about_data(error):
                raise
            return None  # pydicom's way says what is wrong with it
    if len(data) != dtype.itemsize * rows * columns:
        return None
    return patterns(np.frombuffer(data, dtype).reshape(rows, columns))


def patterns(pixels: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Integers of 8 or 16 bits as 16-bit patterns; signed bytes are extended, which the table's mask undoes."""
    if pixels.itemsize == 1:
        return pixels.astype(np.uint16)
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native).view(np.uint16)


def is_about_data(error: BaseException) -> bool:
    """False for an interrupt and its like; a panic of a decoder in Rust is no `Exception`, but is about the data."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"

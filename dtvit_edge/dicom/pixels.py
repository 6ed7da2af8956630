"""Stored pixels of one frame as raw 16-bit patterns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dtvit_edge import reasons
from dtvit_edge.dicom.codestream import frame_size
from dtvit_edge.dicom.encapsulation import find_fragments
from dtvit_edge.dicom.fast_header import COMPRESSED
from dtvit_edge.dicom.header import identity_of
from dtvit_edge.dicom.located_pixels import is_about_data, patterns, read_pixels
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.pixel_data import plain_fault, surplus
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.slice import PixelFault, Slice, SliceHeader
from dtvit_edge.dicom.uids import JPEG2000, JPEG2000Lossless, RLELossless
from dtvit_edge.errors import SliceRejected

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

# Left to itself pydicom tries Pillow for JPEG 2000, which its own documentation advises against, and decodes RLE in
# Python, four times as slowly.
_PREFERRED_PLUGIN = {JPEG2000: "pylibjpeg", JPEG2000Lossless: "pylibjpeg", RLELossless: "pylibjpeg"}

# What they hold says its own size; of other syntaxes (RLE) the decoder takes Rows and Columns.
_SELF_DESCRIBED = COMPRESSED - {RLELossless}

# pydicom says so in words only, when a plugin knows the syntax but not this variant of it.
_UNSUPPORTED = ("does not support", "missing dependencies", "plugins are missing")


class SliceReader:
    """Reads slices in this process, from any thread; keeps the last multi-frame dataset for its other frames.

    Decoders of damaged data crash, hang and take memory without end: `decoder_pool.ParallelReader` bounds them.

    Args:
        fast: plain and RLE pixels are read without pydicom, one frame at a time (`located_pixels`).
        opened: called between parsing a file and decoding.
    """

    def __init__(self, *, fast: bool = True, opened: Callable[[], None] = lambda: None) -> None:
        self._fast = fast
        self._opened = opened
        self._kept: dict[tuple[str, FileState | None], FileDataset | SliceRejected] = {}
        self._opening = threading.Lock()

    def read(self, header: SliceHeader) -> Slice:
        """Decode one frame.

        Raises:
            SliceRejected: the file changed or vanished, ends too early, has no decoder here, or does not decode.
        """
        with anything_rejects():
            if (fast_slice := self._read_fast(header)) is not None:
                return fast_slice
            dataset = self._dataset(header)
            self._opened()
            return Slice(header, decode_frame(dataset, header))

    def read_fast(self, header: SliceHeader) -> Slice | None:
        """The slice, if its pixels are plain or RLE and are to be read as such.

        Raises:
            SliceRejected: see `read`.
        """
        with anything_rejects():
            return self._read_fast(header)

    def _read_fast(self, header: SliceHeader) -> Slice | None:
        _reject(header.pixel_fault)
        if not self._fast or header.pixel_location is None:
            return None
        stored = read_pixels(header.file, header.pixel_location, header.rows, header.columns, header.state)
        return None if stored is None else Slice(header, stored)

    def _dataset(self, header: SliceHeader) -> FileDataset:
        if header.frames == 1:
            return _open(header)
        key = str(header.file), header.state
        with self._opening:
            if key not in self._kept:
                self._kept.clear()  # first: it may be all that memory has room for
                try:
                    self._kept[key] = _open(header)
                except SliceRejected as error:  # which takes as long for each of its frames
                    self._kept[key] = error
            kept = self._kept[key]
        if isinstance(kept, SliceRejected):
            raise SliceRejected(kept.reason, kept.detail) from kept
        return kept


@contextmanager
def anything_rejects() -> Iterator[None]:
    """Whatever a file makes a reader raise becomes that file's `SliceRejected`, with the name of the error's class."""
    try:
        yield
    except SliceRejected:
        raise
    except BaseException as error:
        if not is_about_data(error):
            raise
        raise SliceRejected(reasons.DECODE_FAILED, type(error).__name__) from error


def _open(header: SliceHeader) -> FileDataset:
    """The dataset, if it is still the planned one: its file's state may not tell, where a clock's tick is coarse."""
    dataset = open_dataset(header.file, state=header.state)
    with quiet():
        identity = identity_of(dataset)
    if identity != header.identity:
        raise SliceRejected(reasons.NOT_THE_PLANNED)
    return dataset


def decode_frame(dataset: FileDataset, header: SliceHeader) -> NDArray[np.uint16]:
    """One frame's patterns: (rows, columns) uint16, C-contiguous, little endian, possibly a read-only view."""
    from pydicom.pixels import get_decoder

    if "PixelData" not in dataset:
        raise SliceRejected(reasons.TRUNCATED, "no pixel data")
    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        data = dataset.PixelData
        if not isinstance(data, bytes):
            raise TypeError("pixel data of another VR")
        size = header.rows * header.columns * int(dataset.BitsAllocated) // 8
        actual = len(data)
    except Exception as error:  # elements are converted when they are asked for
        raise SliceRejected(reasons.DECODE_FAILED, type(error).__name__) from error
    # Of a UID that names no transfer syntax pydicom does not know whether it is; it has no decoder for it either.
    if syntax.is_transfer_syntax:
        fault = None
        if not syntax.is_encapsulated:
            fault = plain_fault(actual, size * header.frames, header.columns)
        elif header.frames == 1:  # of several it was seen when the file was planned
            fragments = find_fragments(lambda place, count: data[place : place + count], 0, actual)
            fault = surplus(max(len(fragments.frames), len(fragments.table)), 1)
        _reject(fault)
    try:
        decoder = get_decoder(syntax)
        if not decoder.is_available:
            raise SliceRejected(reasons.CODEC_MISSING, f"{syntax.name}: {'; '.join(decoder.missing_dependencies)}")
        plugin = _PREFERRED_PLUGIN.get(syntax, "")
        with quiet():
            if syntax in _SELF_DESCRIBED:
                _check_size(dataset, header)
            pixels, _ = decoder.as_array(
                dataset,
                index=header.frame - 1,
                raw=True,
                view_only=True,
                correct_unused_bits=False,  # it takes HighBit for BitsStored - 1; the table looks at both
                decoding_plugin=plugin if plugin in decoder.available_plugins else "",
            )
    except NotImplementedError as error:
        raise SliceRejected(reasons.CODEC_MISSING, syntax.name) from error
    except SliceRejected:
        raise
    except BaseException as error:  # decoders raise nearly anything on damaged data
        if not is_about_data(error):
            raise
        unsupported = any(phrase in str(error) for phrase in _UNSUPPORTED)
        reason = reasons.CODEC_MISSING if unsupported else reasons.DECODE_FAILED
        raise SliceRejected(reason, f"{syntax.name}: {type(error).__name__}") from error
    if pixels.shape != (header.rows, header.columns) or pixels.dtype.kind not in "iu" or pixels.itemsize > 2:
        raise SliceRejected(reasons.DECODE_FAILED, f"decoded to {pixels.dtype} {pixels.shape}")
    return patterns(pixels)


def _reject(fault: PixelFault | None) -> None:
    if fault is not None:
        raise SliceRejected(fault.reason, fault.detail)


def _check_size(dataset: FileDataset, header: SliceHeader) -> None:
    """Compare what the frame says of itself with the header: decoders make room for what it says.

    Raises:
        SliceRejected: it says something else, or nothing.
    """
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in dataset:
        offsets = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    frame = get_frame(dataset.PixelData, header.frame - 1, number_of_frames=header.frames, extended_offsets=offsets)
    size = frame_size(frame)
    if size is None:
        raise SliceRejected(reasons.DECODE_FAILED, "the compressed frame does not say its size")
    if (size.rows, size.columns, size.samples) != (header.rows, header.columns, 1):
        found = f"{size.rows} x {size.columns} pixels of {size.samples} samples"
        raise SliceRejected(
            reasons.DECODE_FAILED, f"compressed are {found}, expected {header.rows} x {header.columns} of 1"
        )
    if size.bits > dataset.BitsAllocated:
        raise SliceRejected(
            reasons.DECODE_FAILED, f"compressed are samples of {size.bits} bits, allocated {dataset.BitsAllocated}"
        )

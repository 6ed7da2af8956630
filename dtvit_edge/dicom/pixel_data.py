"""Where a file keeps each frame's pixels, and which frames it cannot have; found without reading them.

A frame of plain pixels lies at a multiple of its length (PS3.5 section 8.1.1), and so many bytes are there or not. Of
encapsulated ones every item says how long it is (section A.4), and a fragment shows whether it begins a frame.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import BufferedReader
from types import NoneType
from typing import TYPE_CHECKING

from dtvit_edge import reasons
from dtvit_edge.dicom.encapsulation import END_OF_ITEM, Fragments, find_fragments
from dtvit_edge.dicom.fast_header import COMPRESSED, HEADER_REACHES, header_digest
from dtvit_edge.dicom.header_values import value
from dtvit_edge.dicom.slice import PixelFault, PixelLocation
from dtvit_edge.dicom.uids import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_PLAIN = frozenset((ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))
_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# No frame has fewer: an item's head has 8, and no codestream is shorter than its own markers.
_LEAST_FRAME_BYTES = 16
# Without these numbers pydicom decodes nothing.
_NUMBERS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
# RLE adds a byte to 128 at worst, and a head.
_RLE_HEAD = 1024

FramePixels = tuple[PixelLocation | None, PixelFault | None]
_UNKNOWN: FramePixels = (None, None)


@dataclass(frozen=True)
class PixelData:
    """The pixel data element of a file whose header was read.

    Attributes:
        syntax: one of those that are read; vr: empty where it is implicit.
        offset: of the value; length: in bytes, as far as the file has them; fragments: where it is encapsulated.
        is_last: the file ends with it.
        header: length and digest of the file's beginning, for `PixelLocation`; None where pydicom has to decode.
        extended_table: the extended offset table's offsets and lengths (PS3.3 C.7.6.3.1.8), where there is one.
    """

    syntax: str
    vr: bytes
    offset: int
    length: int
    fragments: Fragments | None
    is_last: bool
    header: tuple[int, bytes] | None
    extended_table: tuple[tuple[int, ...], tuple[int, ...]] | None

    @property
    def most_frames(self) -> int:
        """No more can be in so many bytes, whatever they hold."""
        return self.length // _LEAST_FRAME_BYTES

    def frames(self, rows: int, columns: int, bits: int, signed: bool, count: int) -> list[FramePixels]:
        """Of each of so many frames where it is, if this process is to read it, and why it cannot be read.

        Args:
            bits: allocated, 8 or 16.
        """
        if self.fragments is None:
            return self._plain(rows, columns, bits, signed, count)
        return self._encapsulated(self.fragments, rows * columns * bits // 8, bits, signed, count)

    def _plain(self, rows: int, columns: int, bits: int, signed: bool, count: int) -> list[FramePixels]:
        size = rows * columns * bits // 8
        if fault := plain_fault(self.length, size * count, columns):
            return [(None, fault)] * count
        big = self.syntax == ExplicitVRBigEndian
        # In big endian words of bytes are swapped, and other words than OW are not.
        is_usual = self.vr == b"OW" and bits == 16 if big else self.vr in (b"", b"OW", b"OB")
        if not self.is_last or not is_usual or self.header is None:
            return [_UNKNOWN] * count
        dtype = _dtype(bits, signed, big)
        return [(self._location(self.offset + i * size, size, dtype), None) for i in range(count)]

    def _encapsulated(self, fragments: Fragments, size: int, bits: int, signed: bool, count: int) -> list[FramePixels]:
        if fragments.end is None:
            if count == 1:
                return [_UNKNOWN]  # pydicom says what it finds, as of a file whose header it need not read
            return [(None, PixelFault(reasons.TRUNCATED, "the pixel data end within an item"))] * count
        extended = () if self.extended_table is None else self.extended_table[0]
        found = max(len(fragments.frames), len(fragments.table), len(extended))
        if fault := surplus(found, count):
            return [(None, fault)] * count
        present = len(fragments.places)
        pixels = [_UNKNOWN] * count
        if self._is_simple(fragments, size, count):
            dtype = _dtype(bits, signed, big=False)
            pixels = [(self._location(*place, dtype), None) for place in fragments.places] + pixels[present:]
        if present < count and count > 1:
            missing = PixelFault(reasons.TRUNCATED, f"{present} fragments of compressed pixels for {count} frames")
            pixels[present:] = [(None, missing)] * (count - present)
        return pixels

    def _is_simple(self, fragments: Fragments, size: int, count: int) -> bool:
        """RLE of one fragment a frame, in order, whatever tables say so: then each is where its item is."""
        if self.syntax != RLELossless or self.vr not in (b"OB", b"OW") or self.header is None:
            return False
        if not self.is_last or not fragments.delimited:
            return False
        if not len(fragments.places) == len(fragments.frames) <= count:
            return False
        if any(length > 2 * size + _RLE_HEAD for _, length in fragments.places):
            return False
        lengths = tuple(length for _, length in fragments.places)
        return fragments.table in ((), fragments.offsets) and self.extended_table in (
            None,
            (fragments.offsets, lengths),
        )

    def _location(self, offset: int, length: int, dtype: str) -> PixelLocation:
        assert self.header is not None
        header_length, digest = self.header
        return PixelLocation(offset, length, self.syntax == RLELossless, digest, header_length, dtype)


def plain_fault(actual: int, expected: int, columns: int) -> PixelFault | None:
    """What is wrong with so many bytes of pixel data that is not encapsulated, if anything is."""
    found = f"{actual} bytes of pixel data, expected {expected}"
    if actual < expected:
        return PixelFault(reasons.TRUNCATED, found)
    # A byte more is padding to an even length (PS3.5 section 8.1.1). A row more, and the matrix is another one.
    return PixelFault(reasons.PIXEL_FORMAT, found) if actual >= expected + columns else None


def surplus(found: int, expected: int) -> PixelFault | None:
    """What is wrong where a file has more compressed frames than it says: the others would be lost in silence."""
    if found <= expected:
        return None
    return PixelFault(reasons.PIXEL_FORMAT, f"{found} compressed frames, expected {expected}")


def find_pixel_data(stream: BufferedReader, dataset: FileDataset) -> PixelData | None:
    """The element that a file's header ends with, if it is pixel data in a syntax that is read.

    Args:
        stream: where pydicom stopped before the pixels.
    """
    place, size = stream.tell(), os.fstat(stream.fileno()).st_size
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    implicit, little = dataset.original_encoding
    if not isinstance(syntax, str) or syntax not in _PLAIN | COMPRESSED:
        return None
    if place >= size:
        return PixelData(syntax, b"", size, 0, None, True, None, None)
    if (implicit, not little) != (syntax == ImplicitVRLittleEndian, syntax == ExplicitVRBigEndian):
        return None  # the file is written in another way than it says
    order = "<" if little else ">"
    stream.seek(max(0, place - 8))
    if stream.read(8)[:4] == struct.pack(f"{order}HH", *divmod(END_OF_ITEM, 0x10000)):
        return None  # pydicom takes a stray one for the end of the dataset, but not where it stops before the pixels
    head = struct.Struct(f"{order}HHI" if implicit else f"{order}HH2sHI")
    start = stream.read(head.size)
    if len(start) < head.size:
        return None
    group, element, *vr, length = head.unpack(start)
    if group << 16 | element != _PIXEL_DATA or (length == _UNDEFINED) != (syntax in COMPRESSED):
        return None
    offset = place + head.size
    fragments = None
    end: int | None = offset + length
    if length == _UNDEFINED:

        def read(at: int, count: int) -> bytes:
            stream.raw.seek(at, os.SEEK_SET)
            return stream.raw.read(count) or b""

        fragments = find_fragments(read, offset, size)
        end = fragments.end
    present = min(end or size, size) - offset
    header = _header(stream, dataset, place)
    return PixelData(
        syntax, vr[0] if vr else b"", offset, present, fragments, end == size, header, _extended_table(dataset)
    )


def _header(stream: BufferedReader, dataset: FileDataset, most: int) -> tuple[int, bytes] | None:
    """Length and digest of a file's beginning that holds the UIDs, and usually all of the header."""
    from pydicom.dataelem import RawDataElement

    if not _can_be_decoded(dataset):
        return None
    length = HEADER_REACHES[0]
    for keyword in _UIDS:
        element = dataset.get_item(keyword)
        if not isinstance(element, RawDataElement):
            return None
        length = max(length, element.value_tell + element.length)
    length = min(length, most)
    if length > HEADER_REACHES[-1]:
        return None
    stream.seek(0)
    return length, header_digest(stream.read(length))


def _can_be_decoded(dataset: FileDataset) -> bool:
    """Whether all that pydicom asks for is there, and of its type: what it refuses is not read here either."""
    numbers = [value(dataset, keyword) for keyword in _NUMBERS]
    if not all(type(n) is int for n in numbers) or not 0 < numbers[3] <= numbers[2]:
        return False
    if not isinstance(value(dataset, "NumberOfFrames"), (int, NoneType)) or "PhotometricInterpretation" not in dataset:
        return False
    has_table = any(keyword in dataset for keyword in _TABLES)
    return not has_table or all(isinstance(value(dataset, keyword), bytes) for keyword in _TABLES)


def _extended_table(dataset: FileDataset) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    tables = [value(dataset, keyword) for keyword in _TABLES]
    if not all(isinstance(table, bytes) for table in tables):
        return None
    offsets, lengths = (struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8]) for table in tables)
    return offsets, lengths


def _dtype(bits: int, signed: bool, big: bool) -> str:
    if bits == 8:
        return "i1" if signed else "u1"
    return ">u2" if big else "<u2"

"""The common case without pydicom: one frame, little endian, 16 bits, every tag of interest as expected.

Most CT slices are that, and building a whole dataset object for each costs more than scoring does. Elements are walked
once (PS3.5 section 7.1), the few that a slice's header asks for are decoded, all others are stepped over. At the first
thing out of the ordinary `parse` gives up with None, and pydicom reads the file: this reader never has to be right
about a strange file, it only must never be wrong about one that it accepts.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dtvit_edge.dicom.encapsulation import END_OF_ITEM, END_OF_SEQUENCE, ITEM
from dtvit_edge.dicom.fast_values import WANTED, NotCommon, signed, unsigned
from dtvit_edge.dicom.planned_file import FileState, open_planned
from dtvit_edge.dicom.slice import PixelLocation
from dtvit_edge.dicom.uids import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    MediaStorageDirectoryStorage,
    RLELossless,
    RLETransferSyntaxes,
)

HEADER_REACHES = (1 << 14, 1 << 20)  # bytes to look at: the first holds most headers
LARGEST_FILE = 1 << 26
_PREAMBLE = 132
_LAST_META = 0x0002FFFF
_STORAGE_CLASS, _TRANSFER_SYNTAX = 0x00020002, 0x00020010
_DIRECTORY = MediaStorageDirectoryStorage.encode()
_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV", b"SQ"})
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
COMPRESSED = frozenset(
    (*RLETransferSyntaxes, *JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
)  # pydicom's own `is_encapsulated` looks into the dictionary of all UIDs each time
_SYNTAXES = {uid.encode(): uid for uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, *COMPRESSED)}
_CHARACTERS = frozenset({b"", b"ISO_IR 100", b"ISO_IR 6", b"ISO_IR 192"})  # all of them hold ASCII
# What `header.py` asks for as well and the common case does not have: sequences, what belongs to their items, and
# other pixel data.
_NOT_COMMON = frozenset(
    {0x00041220, 0x00082218, 0x00089007, 0x00180012, 0x00189329, 0x00189342, 0x00209156, 0x00209161, 0x00283000,
     0x52009229, 0x52009230, 0x7FE00001, 0x7FE00008, 0x7FE00009}
)  # fmt: skip
_OF_INTEREST = _NOT_COMMON | WANTED.keys() | {_PIXEL_DATA}
# What is a slice's own; all else is its series', of which the values are made once.
OF_SLICES = ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SliceLocation")
_OF_SLICES = frozenset(tag for tag, (keyword, _, _) in WANTED.items() if keyword in OF_SLICES)

_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHI").unpack_from
_length = struct.Struct("<I").unpack_from


@dataclass(frozen=True)
class FastHeader:
    """A file of the common case.

    Attributes:
        values: by keyword, of the types that pydicom gives: text, whole numbers, floats, lists of these.
        pixels: offset and length in bytes of the pixel data, which end with the file.
        syntax: explicit or implicit little endian, RLE or one of the JPEGs.
        series: transfer syntax, and tags with the bytes of all that the slices of a series share; two headers of one
            differ in `OF_SLICES` alone.
        digest: of all bytes before the pixel data, where a file was read.
    """

    values: dict[str, Any]
    pixels: tuple[int, int]
    syntax: str
    series: tuple[Any, ...] = ()
    digest: bytes = b""

    @property
    def pixel_location(self) -> PixelLocation | None:
        """What is needed to read the pixels; None for the JPEGs, and for a file that is too large."""
        rle = self.syntax == RLELossless
        size = sum(self.pixels)
        if (self.syntax in COMPRESSED and not rle) or size > LARGEST_FILE:
            return None
        return PixelLocation(*self.pixels, rle, self.digest, self.pixels[0])

    def get(self, keyword: str, default: Any = None) -> Any:
        """The value, as `pydicom.Dataset.get` by keyword."""
        return self.values.get(keyword, default)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.values


def read_fast_header(file: Path, state: FileState | None = None) -> FastHeader | None:
    """A file's header, or None where it is not the common case or cannot be read; the pixels are not read.

    Raises:
        SliceRejected: the file is not in this state.
    """
    try:
        with open_planned(file, state) as stream:
            size = os.fstat(stream.fileno()).st_size
            for reach in HEADER_REACHES:
                stream.seek(0)
                start = stream.read(reach)
                header = parse(start, size)
                if header is not None:
                    return replace(header, digest=header_digest(start[: header.pixels[0]]))
                if size <= reach:
                    return None
    except OSError:
        pass  # pydicom's way says why
    return None


def header_digest(start: bytes) -> bytes:
    """Tells a file's header from another's: a clock's tick of milliseconds is no proof that a file is the same."""
    return hashlib.blake2b(start, digest_size=16).digest()


def parse(data: bytes, size: int) -> FastHeader | None:
    """The common case's header from a file's first bytes, or None.

    Args:
        data: the file, or a beginning of it; None is returned where the header does not end in it.
        size: of the whole file.
    """
    try:
        return _parse(data, size)
    except (NotCommon, struct.error, ValueError, RecursionError):
        return None


def _parse(data: bytes, size: int) -> FastHeader:
    syntax, place = _meta(data)
    implicit = syntax == ImplicitVRLittleEndian
    encapsulated = syntax in COMPRESSED
    series: list[Any] = [syntax]
    own: dict[str, Any] = {}
    last = _LAST_META
    end = len(data)
    while True:
        vr = None
        if implicit:
            group, element, length = _implicit(data, place)
            place += 8
        else:  # as `_explicit_element`, whose call would be a quarter of the time
            group, element, vr, length = _explicit(data, place)
            place += 8
            if vr in _LONG:
                (length,) = _length(data, place)
                place += 4
            elif vr not in _SHORT:
                raise NotCommon
        tag = group << 16 | element
        if tag <= last:
            raise NotCommon
        last = tag
        if tag in _OF_INTEREST:
            if tag in _NOT_COMMON:
                raise NotCommon
            if tag == _PIXEL_DATA:
                break
            keyword, expected, decode = WANTED[tag]
            if (vr is not None and vr not in expected) or place + length > end:
                raise NotCommon
            raw = data[place : place + length]
            if tag in _OF_SLICES:
                own[keyword] = decode(raw)
            else:
                series += (tag, raw)
        elif length == _UNDEFINED:
            if vr not in (None, b"SQ"):
                raise NotCommon
            place = _after_sequence(data, place, implicit)
            continue
        place += length
    if length == _UNDEFINED:
        if vr != b"OB" or not encapsulated:
            raise NotCommon
        length = size - place
    elif place + length != size or vr not in (None, b"OW", b"OB") or encapsulated:
        raise NotCommon
    shared = tuple(series)
    values = _series_values(shared)
    if not encapsulated and length != 2 * values["Rows"] * values["Columns"]:
        raise NotCommon
    return FastHeader(values | own, (place, length), syntax, shared)


@lru_cache(maxsize=256)
def _series_values(series: tuple[Any, ...]) -> dict[str, Any]:
    """The values by keyword of `FastHeader.series`, if they make one grey frame of 16 bits; not to be changed."""
    values = {}
    for tag, raw in zip(series[1::2], series[2::2], strict=True):
        keyword, _, decode = WANTED[tag]
        values[keyword] = decode(raw)
    return _checked(values)


def _explicit_element(data: bytes, place: int) -> tuple[int, bytes, int, int]:
    """Tag, VR and length of an element, and where its value begins (PS3.5 section 7.1.2)."""
    group, element, vr, length = _explicit(data, place)
    place += 8
    if vr in _LONG:
        (length,) = _length(data, place)
        place += 4
    elif vr not in _SHORT:
        raise NotCommon
    return group << 16 | element, vr, length, place


def _after_sequence(data: bytes, place: int, implicit: bool) -> int:
    """Behind a sequence of undefined length (PS3.5 section 7.5); nothing in it is read."""
    while True:
        group, element, length = _implicit(data, place)
        place += 8
        tag = group << 16 | element
        if tag == END_OF_SEQUENCE and length == 0:
            return place
        if tag != ITEM:
            raise NotCommon
        place = _after_item(data, place, implicit, None if length == _UNDEFINED else place + length)


def _after_item(data: bytes, place: int, implicit: bool, end: int | None) -> int:
    """Behind an item; one of defined length has to hold whole elements too, since pydicom looks at them."""
    while end is None or place < end:
        group, element, length = _implicit(data, place)
        if end is None and group << 16 | element == END_OF_ITEM and length == 0:
            return place + 8
        vr, place = b"SQ", place + 8
        if not implicit:
            _, vr, length, place = _explicit_element(data, place - 8)
        if length != _UNDEFINED:
            place += length
        elif vr == b"SQ":
            place = _after_sequence(data, place, implicit)
        else:
            raise NotCommon
    if place != end:
        raise NotCommon
    return place


def _meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the file meta information ends (PS3.10 section 7.1)."""
    if data[128:_PREAMBLE] != b"DICM" or _explicit(data, _PREAMBLE) != (2, 0, b"UL", 4):
        raise NotCommon
    (length,) = _length(data, _PREAMBLE + 8)
    place = _PREAMBLE + 12
    stop = place + length
    if stop > len(data):
        raise NotCommon
    syntax: str | None = None
    while place < stop:
        tag, vr, length, place = _explicit_element(data, place)
        if tag >> 16 != 2 or (tag == _STORAGE_CLASS and data[place : place + length].startswith(_DIRECTORY)):
            raise NotCommon
        if tag == _TRANSFER_SYNTAX:
            if vr != b"UI":  # what pydicom makes of it is no UID
                raise NotCommon
            syntax = _SYNTAXES.get(data[place : place + length].rstrip(b"\0"))
        place += length
    if syntax is None or place != stop:
        raise NotCommon
    return syntax, place


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The values, if they make one grey frame of 16 bits."""
    if values.get("BitsAllocated") != 16 or not values.get("Rows") or not values.get("Columns"):
        raise NotCommon
    if values.get("SamplesPerPixel") != 1 or values.get("NumberOfFrames", 1) != 1:
        raise NotCommon
    if values.pop("SpecificCharacterSet", b"") not in _CHARACTERS:
        raise NotCommon
    representation = values.get("PixelRepresentation")
    if representation not in (0, 1):
        raise NotCommon
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):  # US or SS, as the pixels are
        if keyword in values:
            (values[keyword],) = (signed if representation else unsigned)(values[keyword])
    return values

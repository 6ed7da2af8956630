"""DICOM files that go wrong in every way that a header can: one seeded mutant of a small CT slice after the other.

A slice is kept as its elements, so that a mutant can lie about its own lengths and value representations, which no
DICOM library would write. Fields are changed first, then, in a part of the mutants, bytes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from benchmarks.standalone.odd_values import (
    CHARACTER_SETS,
    DECIMALS,
    NUMBERS,
    OTHERS,
    SHORTS,
    SIDE,
    SYNTAXES,
    TEXTS,
    WORDS,
)
from dtvit_edge.dicom.fast_values import WANTED

_UNDEFINED = 0xFFFFFFFF
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV", b"SQ")
_VRS = (*_LONG, b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH",
        b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"XX", b"\0\0", b"ds")  # fmt: skip
_PIXEL_DATA = 0x7FE00010
_REPRESENTATION = 0x00280103


@dataclass(frozen=True)
class Element:
    """One element as it will be written: `length` where it is not that of its bytes."""

    tag: int
    vr: bytes
    data: bytes
    length: int | None = None


@dataclass
class SliceFile:
    """A file in the making: file meta information, elements, and what stands before and behind them."""

    implicit: bool
    meta: list[Element]
    elements: list[Element]
    preamble: bytes = bytes(128) + b"DICM"
    trailer: bytes = b""
    group_length_error: int = 0
    byte_mutations: list[Callable[[bytearray], None]] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """The file as it will lie on the disk."""
        meta = b"".join(_encode(e, implicit=False) for e in self.meta)
        length = struct.pack("<I", max(0, len(meta) + self.group_length_error))
        body = b"".join(_encode(e, self.implicit) for e in self.elements)
        head = self.preamble + _encode(Element(0x00020000, b"UL", length), implicit=False)
        data = bytearray(head + meta + body + self.trailer)
        for mutate in self.byte_mutations:
            mutate(data)
        return bytes(data)


def mutant(seed: int, number: int) -> bytes:
    """The bytes of one file, the same for the same seed and number."""
    rng = random.Random(f"{seed}/{number}")
    file = _slice(rng)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        rng.choice(_MUTATIONS)(file, rng)
    if rng.random() < 0.35:
        for _ in range(rng.choice((1, 1, 2, 4))):
            file.byte_mutations.append(_byte_mutation(rng))
    return file.to_bytes()


def _slice(rng: random.Random) -> SliceFile:
    """An unhurt slice: explicit, implicit or RLE, signed or not, with a few optional tags."""
    kind = rng.choice((ExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless))
    pixels = _noise(rng.randrange(8))
    signed = rng.random() < 0.5
    elements = [_element(keyword, data) for keyword, data in TEXTS.items()]
    elements += [_element(keyword, struct.pack("<H", n)) for keyword, n in NUMBERS.items()]
    if signed:
        elements = [replace(e, data=b"\1\0") if e.tag == _REPRESENTATION else e for e in elements]
    for keyword in rng.sample(list(OTHERS), rng.choice((0, 1, 2, 4))):
        elements.append(_element(keyword, OTHERS[keyword]))
    if kind == RLELossless:
        elements.append(Element(_PIXEL_DATA, b"OB", _encapsulated(pixels), _UNDEFINED))
    else:
        elements.append(Element(_PIXEL_DATA, b"OW", pixels))
    meta = [
        Element(0x00020002, b"UI", CTImageStorage.encode() + b"\0"),
        Element(0x00020003, b"UI", b"1.2.3.4\0"),
        Element(0x00020010, b"UI", _even(kind.encode(), b"\0")),
    ]
    return SliceFile(kind == ImplicitVRLittleEndian, meta, sorted(elements, key=lambda e: e.tag))


@cache
def _noise(number: int) -> bytes:
    return random.Random(number).randbytes(2 * SIDE * SIDE)


@cache
def _encapsulated(pixels: bytes) -> bytes:
    """Pixel data of one RLE frame behind an empty offset table."""
    frame = RLELosslessEncoder.encode(
        np.frombuffer(pixels, "<u2").reshape(SIDE, SIDE), rows=SIDE, columns=SIDE, samples_per_pixel=1,
        bits_allocated=16, bits_stored=16, pixel_representation=0, photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )  # fmt: skip
    item = struct.Struct("<HHI").pack
    return item(0xFFFE, 0xE000, 0) + item(0xFFFE, 0xE000, len(frame)) + frame + item(0xFFFE, 0xE0DD, 0)


@cache
def _element(keyword: str, data: bytes) -> Element:
    vr = dictionary_VR(keyword)
    return Element(int(Tag(keyword)), b"US" if "or" in vr else vr.encode(), data)


def _even(data: bytes, pad: bytes = b" ") -> bytes:
    return data + pad * (len(data) % 2)


def _encode(element: Element, implicit: bool) -> bytes:
    length = len(element.data) if element.length is None else element.length
    head = struct.pack("<HH", element.tag >> 16, element.tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", length & _UNDEFINED) + element.data
    if element.vr in _LONG:
        return head + element.vr + struct.pack("<HI", 0, length & _UNDEFINED) + element.data
    return head + element.vr + struct.pack("<H", length & 0xFFFF) + element.data


def _value(element: Element, rng: random.Random) -> Element:
    """Another value of the element's kind; one in eight of another kind, or of an odd length."""
    kind = WANTED[element.tag][1][0] if element.tag in WANTED else element.vr
    if rng.random() < 0.12:
        kind = rng.choice((b"DS", b"LO", b"US"))
    if element.tag == 0x00080005:
        data = rng.choice(CHARACTER_SETS)
    elif kind in (b"DS", b"IS"):
        data = rng.choice(DECIMALS)
    elif kind in (b"US", b"SS"):
        data = struct.pack("<H", rng.choice(SHORTS)) * rng.choice((1, 1, 1, 1, 0, 2))
    else:
        data = rng.choice(WORDS)
    return replace(element, data=data if rng.random() < 0.2 else _even(data))


def _of_interest(file: SliceFile, rng: random.Random) -> int:
    """The place of an element that a header asks for."""
    places = [i for i, e in enumerate(file.elements) if e.tag in WANTED]
    return rng.choice(places) if places else rng.randrange(len(file.elements))


def _another_value(file: SliceFile, rng: random.Random) -> None:
    i = _of_interest(file, rng)
    file.elements[i] = _value(file.elements[i], rng)


def _another_vr(file: SliceFile, rng: random.Random) -> None:
    i = rng.choice((_of_interest(file, rng), len(file.elements) - 1))
    file.elements[i] = replace(file.elements[i], vr=rng.choice(_VRS))


def _another_length(file: SliceFile, rng: random.Random) -> None:
    i = rng.choice((_of_interest(file, rng), len(file.elements) - 1))
    actual = len(file.elements[i].data)
    length = rng.choice((0, actual - 2, actual - 1, actual + 1, actual + 2, actual + 8, 0xFFFF, _UNDEFINED, 0x7FFFFFFF))
    file.elements[i] = replace(file.elements[i], length=max(0, length))


def _missing(file: SliceFile, rng: random.Random) -> None:
    if len(file.elements) > 1:
        del file.elements[rng.choice((_of_interest(file, rng), -1))]


def _twice(file: SliceFile, rng: random.Random) -> None:
    i = _of_interest(file, rng)
    file.elements.insert(i + rng.choice((0, 1)), _value(file.elements[i], rng))


def _swapped(file: SliceFile, rng: random.Random) -> None:
    i, j = rng.randrange(len(file.elements)), rng.randrange(len(file.elements))
    file.elements[i], file.elements[j] = file.elements[j], file.elements[i]


def _added(file: SliceFile, rng: random.Random) -> None:
    """A tag more: of the header's, private, a group length, or one that changes what the file is."""
    tag = rng.choice((*(int(Tag(k)) for k in OTHERS), 0x00090010, 0x00091001, 0x00080000, 0x00041220, 0x00041130,
                      0x00283000, 0x60003000, 0x7FE00008, 0x7FE00001, 0xFFFCFFFC, 0x52009230, 0x00180012, 0x0020000D,
                      0x00209111, 0x00082218))  # fmt: skip
    vr = WANTED[tag][1][0] if tag in WANTED else rng.choice((b"LO", b"SQ", b"UN", b"OB", b"UL"))
    added = _value(Element(tag, vr, bytes(4)), rng) if tag in WANTED else Element(tag, vr, rng.choice((b"", bytes(4))))
    file.elements = sorted([*file.elements, added], key=lambda e: e.tag)


def _sequence(file: SliceFile, rng: random.Random) -> None:
    """A sequence with an item that holds tags of the header itself, of defined or undefined lengths."""
    inner = b"".join(_encode(_value(e, rng), file.implicit) for e in rng.sample(file.elements[:-1], 2))
    open_item, open_sequence = rng.random() < 0.5, rng.random() < 0.5
    if rng.random() < 0.25:
        inner += _encode(_wrapped(Element(0x00081140, b"SQ", b""), inner, True, True), file.implicit)
    tag = rng.choice((0x00081140, 0x00081110, 0x0040A730, 0x00091002, 0x00180026))
    vr = rng.choice((b"SQ", b"SQ", b"SQ", b"UN"))
    added = _wrapped(Element(tag, vr, b""), inner, open_item, open_sequence)
    file.elements = sorted([*file.elements, added], key=lambda e: e.tag)


def _wrapped(element: Element, inner: bytes, open_item: bool, open_sequence: bool) -> Element:
    item = struct.Struct("<HHI").pack
    data = item(0xFFFE, 0xE000, _UNDEFINED if open_item else len(inner)) + inner
    data += item(0xFFFE, 0xE00D, 0) if open_item else b""
    data += item(0xFFFE, 0xE0DD, 0) if open_sequence else b""
    return replace(element, data=data, length=_UNDEFINED if open_sequence else None)


def _bits(file: SliceFile, rng: random.Random) -> None:
    tags = {int(Tag(k)) for k in NUMBERS}
    i = rng.choice([i for i, e in enumerate(file.elements) if e.tag in tags] or [0])
    file.elements[i] = replace(file.elements[i], data=struct.pack("<H", rng.choice(SHORTS)))


def _padding(file: SliceFile, rng: random.Random) -> None:
    tags = rng.choice(((0x00280120,), (0x00280121,), (0x00280120, 0x00280121)))
    vrs = (b"US", b"SS", b"SS", b"OW", b"UN", b"DS")
    added = [Element(tag, rng.choice(vrs), struct.pack("<H", rng.choice(SHORTS))) for tag in tags]
    file.elements = sorted([e for e in file.elements if e.tag not in tags] + added, key=lambda e: e.tag)


def _meta(file: SliceFile, rng: random.Random) -> None:
    what = rng.randrange(6)
    if what == 0 and file.meta:
        del file.meta[rng.randrange(len(file.meta))]
    elif what == 1:
        syntax = _even(str(rng.choice(SYNTAXES)).encode(), b"\0")
        file.meta = [replace(e, data=syntax) if e.tag == 0x00020010 else e for e in file.meta]
    elif what == 2:
        file.group_length_error = rng.choice((-8, -2, -1, 1, 2, 8, 1000))
    elif what == 3:
        file.preamble = rng.choice((b"", bytes(128), b"DICM", rng.randbytes(128) + b"DICM"))
    elif what == 4:
        directory = _even(MediaStorageDirectoryStorage.encode(), b"\0")
        file.meta = [replace(e, data=directory) if e.tag == 0x00020002 else e for e in file.meta]
    else:
        file.meta.append(Element(rng.choice((0x00020012, 0x00020102, 0x00020000, 0x00030010)), b"UI", b"1.2\0"))


def _pixels(file: SliceFile, rng: random.Random) -> None:
    last = file.elements[-1]
    if rng.random() < 0.3:
        file.trailer = rng.choice((b"\0", b"\0\0", bytes(64), b"\xfc\xff\xfc\xffOB\0\0\0\0\0\0"))
    elif rng.random() < 0.5:
        file.elements[-1] = replace(last, data=last.data[: -rng.choice((1, 2, 8, 100))])
    else:
        file.elements[-1] = replace(last, data=last.data + bytes(rng.choice((1, 2, 8))))


def _byte_mutation(rng: random.Random) -> Callable[[bytearray], None]:
    """A change to the header's bytes: one byte, one bit, a piece cut out, doubled, or the end cut off."""
    what, where, by = rng.randrange(8), rng.random(), rng.randrange(256)

    def mutate(data: bytearray) -> None:
        reach = max(1, len(data) - (2 * SIDE * SIDE if by % 8 else 0))
        if not data:
            return
        place = int(where * min(reach, len(data)))
        if what < 4:
            data[place] = by
        elif what == 4:
            data[place] ^= 1 << by % 8
        elif what == 5:
            del data[place : place + 1 + by % 4]
        elif what == 6:
            data[place:place] = data[place : place + 1 + by % 8]
        else:
            del data[place:]

    return mutate


_MUTATIONS: tuple[Callable[[SliceFile, random.Random], None], ...] = (
    _another_value, _another_value, _another_value, _another_value, _another_vr, _another_length, _missing, _twice,
    _swapped, _added, _sequence, _bits, _padding, _meta, _pixels,
)  # fmt: skip

"""The size that a compressed frame says of itself, read before any decoder sees it.

A decoder makes room for what the codestream announces, whatever Rows and Columns say: 40,000 x 40,000 pixels in a file
of 7 KB are 3 GiB. JPEG and JPEG-LS announce it in a start of frame (ITU-T T.81 section B.2.2, T.87 section C.2.2), JPEG
2000 and HTJ2K in the SIZ segment (T.800 section A.5.1), which a JP2 file (T.800 annex I) has in its codestream box. RLE
(PS3.5 annex G) announces none.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
# T.81 table B.1: SOF0 to SOF15 but DHT (C4), JPG (C8) and DAC (CC); T.87 adds SOF55.
_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
# A fragment that begins a frame shows it within so many bytes: the head of RLE has 64.
STARTS_WITHIN = 64
_RLE_SEGMENTS = range(1, 16)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# Tables and comments before a frame, boxes before a codestream: files have about ten.
_MOST_SEGMENTS = 1000

_start_of_frame = struct.Struct(">BHHB").unpack_from
_siz = struct.Struct(">8xIIII16xHBBB").unpack_from
_length = struct.Struct(">H").unpack_from
_box = struct.Struct(">I4s").unpack_from
_rle = struct.Struct("<II").unpack_from


class FrameSize(NamedTuple):
    """What a codestream announces: its matrix, bits of a sample, and samples of a pixel."""

    rows: int
    columns: int
    bits: int
    samples: int


def frame_size(data: bytes) -> FrameSize | None:
    """The announced size; None where the data are no JPEG, JPEG-LS, JPEG 2000 or HTJ2K, or end before they say it.

    Args:
        data: one frame, its fragments joined.
    """
    try:
        if data.startswith(_JP2):
            data = _codestream(data)
        if data.startswith(_JPEG_2000):
            return _of_jpeg_2000(data)
        return _of_jpeg(data) if data.startswith(_JPEG) else None
    except struct.error:
        return None


def begins_frame(start: bytes) -> bool:
    """Whether a fragment begins a frame of any of the syntaxes that are read, and does not go on with one.

    Args:
        start: the fragment, or its first `STARTS_WITHIN` bytes.
    """
    if start.startswith((_JPEG + b"\xff", _JPEG_2000, _JP2)):
        return True
    if len(start) < STARTS_WITHIN:
        return False
    segments, first = _rle(start)
    return segments in _RLE_SEGMENTS and first == STARTS_WITHIN


def _of_jpeg_2000(data: bytes) -> FrameSize | None:
    right, bottom, left, top, samples, bits, step_x, step_y = _siz(data)
    if (step_x, step_y) != (1, 1):  # a sub-sampled component is smaller than the image
        return None
    return FrameSize(bottom - top, right - left, (bits & 0x7F) + 1, samples)


def _of_jpeg(data: bytes) -> FrameSize | None:
    place = 2
    for _ in range(_MOST_SEGMENTS):
        while data[place : place + 2] == b"\xff\xff":  # fill bytes (T.81 section B.1.1.2)
            place += 1
        if data[place : place + 1] != b"\xff":
            return None
        marker = data[place + 1] if place + 1 < len(data) else _END_OF_IMAGE
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return None
        if marker in _STARTS_OF_FRAME:
            bits, rows, columns, samples = _start_of_frame(data, place + 4)
            return FrameSize(rows, columns, bits, samples)
        place += 2 + _length(data, place + 2)[0]
    return None


def _codestream(data: bytes) -> bytes:
    """The contents of a JP2 file's codestream box; nothing where there is none."""
    place = 0
    for _ in range(_MOST_SEGMENTS):
        length, kind = _box(data, place)
        if kind == b"jp2c":
            return data[place + (16 if length == 1 else 8) :]
        if length < 8:  # to the end of the file, or in 64 bits: no box before a codestream is that
            break
        place += length
    return b""

"""What a file is that is no DICOM: an archive, zeros, or anything else. Told by its bytes, never by its name."""

from __future__ import annotations

import tarfile
from typing import BinaryIO

from dtvit_edge import reasons
from dtvit_edge.reasons import Reason

# Archives and compressed files as `file` knows them: their first bytes.
_MAGIC = (
    b"PK\x03\x04",  # zip
    b"PK\x05\x06",  # an empty zip
    b"PK\x07\x08",  # a part of one
    b"\x1f\x8b",  # gzip, tgz
    b"\x1f\x9d",  # compress
    b"BZh",
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",  # zstandard
    b"\x04\x22\x4d\x18",  # lz4
    b"LZIP",
    b"MSCF",  # cabinet
)
_ISO_9660 = 0x8001, b"CD001"  # the image of a CD, as patients get them: 16 sectors of anything come first
_ZEROS_REACH = 1 << 26  # bytes looked at: a sparse file of a terabyte of zeros has to end
_BLOCK = 1 << 20


def other_kind(stream: BinaryIO) -> Reason:
    """The reason of a file that is no DICOM; it is read from its beginning, where it holds zeros up to 64 MiB."""
    stream.seek(0)
    start = stream.read(tarfile.BLOCKSIZE)
    if start.startswith(_MAGIC) or _is_tar(start):
        return reasons.ARCHIVE
    place, mark = _ISO_9660
    stream.seek(place)
    if stream.read(len(mark)) == mark:
        return reasons.ARCHIVE
    return reasons.ZERO_FILE if _is_zeros(stream) else reasons.NOT_DICOM


def _is_tar(start: bytes) -> bool:
    """By the checksum of the first member's header, which old ones without a magic word have as well."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _is_zeros(stream: BinaryIO) -> bool:
    stream.seek(0)
    left = _ZEROS_REACH
    while left > 0 and (block := stream.read(_BLOCK)):
        if block.count(0) != len(block):
            return False
        left -= len(block)
    return True

"""Open one file as a DICOM dataset, or say why not. Nothing here decodes pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from dtvit_edge import reasons
from dtvit_edge.dicom.other_files import other_kind
from dtvit_edge.dicom.planned_file import FileState, open_planned
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.errors import SliceRejected

# What one file may take in memory once inflated or decoded. 1,024 x 1,024 x 16 bits are 2 MiB a frame: 512 frames.
BYTE_BUDGET = 1 << 30

_PREAMBLE = 132
# (0002,0010) Transfer Syntax UID comes fourth in the file meta information, well within this many bytes.
_META_REACH = 1024
# (0002,0000) File Meta Information Group Length, which comes first: tag, VR and length are 8 bytes.
_GROUP_LENGTH = struct.Struct("<8xL")
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()


def open_dataset(file: Path, *, stop_before_pixels: bool = False, state: FileState | None = None) -> FileDataset:
    """Read a file's dataset.

    Args:
        state: what the file has to be; None takes it as it is.

    Raises:
        SliceRejected: empty, unreadable, not DICOM, a DICOMDIR, a header that cannot be parsed, or deflated data
            that would expand past the byte budget.
    """
    try:
        with open_planned(file, state) as raw:
            stream = io.BufferedReader(raw)
            size = os.fstat(raw.fileno()).st_size
            if size == 0:
                raise SliceRejected(reasons.EMPTY_FILE)
            if size > BYTE_BUDGET and not stop_before_pixels:
                raise SliceRejected(reasons.TOO_LARGE, f"the file has {size >> 20} MiB")
            start = stream.read(_META_REACH)
            bare = _is_bare_dataset(start)
            if bare is None:
                raise SliceRejected(other_kind(stream))
            stream.seek(0)
            return _parse(stream, stop_before_pixels, bare=bare, deflated=_DEFLATED in start)
    except OSError as error:
        raise SliceRejected(reasons.UNREADABLE, error.strerror or type(error).__name__) from error


def _parse(stream: BinaryIO, stop_before_pixels: bool, *, bare: bool, deflated: bool) -> FileDataset:
    with quiet():
        try:
            if deflated:
                _check_inflated_size(stream)
                stream.seek(0)
            dataset = pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels, force=bare)
        except InvalidDicomError as error:
            raise SliceRejected(reasons.NOT_DICOM) from error
        except (SliceRejected, OSError):
            raise
        except MemoryError as error:
            raise SliceRejected(reasons.TOO_LARGE) from error
        except Exception as error:  # pydicom raises nearly anything on a damaged header
            raise SliceRejected(reasons.BAD_HEADER, type(error).__name__) from error
        if (
            dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
            or "DirectoryRecordSequence" in dataset
        ):
            raise SliceRejected(reasons.DICOMDIR)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def _is_bare_dataset(start: bytes) -> bool | None:
    """True for a dataset without preamble and prefix: it begins with a little-endian tag of group 0002 or 0008.

    False behind the prefix DICM, None where the file begins with neither.
    """
    if start[128:_PREAMBLE] == b"DICM":
        return False
    if len(start) >= 8 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0:
        return True
    return None


def _check_inflated_size(stream: BinaryIO) -> None:
    """Inflate into nothing, counting: 1 MB can expand to 1 GB, and pydicom inflates without a limit."""
    stream.seek(_PREAMBLE)
    element = stream.read(_GROUP_LENGTH.size)
    if element[:8] != b"\x02\0\0\0UL\x04\0" or len(element) < _GROUP_LENGTH.size:
        raise SliceRejected(reasons.BAD_HEADER, "deflated, and the file meta information has no group length")
    (group_length,) = _GROUP_LENGTH.unpack(element)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    stream.seek(group_length, os.SEEK_CUR)
    while block := stream.read(1 << 16):
        while block:
            total += len(inflater.decompress(block, 1 << 20))
            if total > BYTE_BUDGET:
                raise SliceRejected(reasons.TOO_LARGE, f"inflates to more than {BYTE_BUDGET >> 20} MiB")
            block = inflater.unconsumed_tail

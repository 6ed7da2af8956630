"""Open one file as a DICOM dataset, or say why not. Nothing here decodes pixels."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dtvit_edge import reasons
from dtvit_edge.dicom.other_files import other_kind
from dtvit_edge.dicom.pixel_data import PixelData, find_pixel_data
from dtvit_edge.dicom.planned_file import FileState, open_planned
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.uids import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from dtvit_edge.errors import SliceRejected

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

# What one file may take in memory once inflated or decoded. 1,024 x 1,024 x 16 bits are 2 MiB a frame: 512 frames.
BYTE_BUDGET = 1 << 30
# Of deflated data: pydicom holds them inflated two to three times over, and inflates them again for the pixels. It
# counts from the file's own size, so that both together stay below it.
DEFLATED_BUDGET = BYTE_BUDGET >> 2

_PREAMBLE = 132
# What tells DICOM from other files lies within this many bytes.
_START = 1024
_UNDEFINED = 0xFFFFFFFF
# Errors that pydicom makes itself or gets for asking for an impossible place: the header's fault, not the disk's.
_HEADERS_FAULT = (None, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)


def open_dataset(file: Path, *, stop_before_pixels: bool = False, state: FileState | None = None) -> FileDataset:
    """Read a file's dataset.

    Args:
        state: what the file has to be; None takes it as it is.

    Raises:
        SliceRejected: empty, unreadable, not DICOM, a DICOMDIR, a header that cannot be parsed, or deflated data
            that would expand past the byte budget.
    """
    with _beginning(file, state) as (stream, bare):
        if stream.size > BYTE_BUDGET and not stop_before_pixels:
            raise SliceRejected(reasons.TOO_LARGE, f"the file has more than {BYTE_BUDGET >> 20} MiB")
        return _parse(stream, stop_before_pixels, bare=bare)


def open_header(file: Path, state: FileState | None = None) -> tuple[FileDataset, PixelData | None]:
    """Read a file's header, and find its pixel data.

    Raises:
        SliceRejected: as `open_dataset`.
    """
    with _beginning(file, state) as (stream, bare):
        dataset = _parse(stream, True, bare=bare)
        return dataset, find_pixel_data(stream, dataset)


def check_begins_as_dicom(file: Path, state: FileState | None = None) -> None:
    """Look at a file's first bytes, and no further.

    Raises:
        SliceRejected: as `open_dataset`, for files that are empty, unreadable or something else than DICOM.
    """
    with _beginning(file, state):
        pass


@contextmanager
def _beginning(file: Path, state: FileState | None) -> Iterator[tuple[_PartlyInflated, bool]]:
    """A stream at its begin, and whether it is a dataset without preamble and prefix."""
    try:
        with open_planned(file, state) as raw:
            stream = _PartlyInflated(raw)
            size = stream.size
            if size == 0:
                raise SliceRejected(reasons.EMPTY_FILE)
            bare = _is_bare_dataset(stream.read(_START), size)
            if bare is None:
                raise SliceRejected(other_kind(stream))
            stream.seek(0)
            yield stream, bare
    except OSError as error:
        raise SliceRejected(reasons.UNREADABLE, error.strerror or type(error).__name__) from error


def _parse(stream: BinaryIO, stop_before_pixels: bool, *, bare: bool) -> FileDataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    with quiet():
        try:
            dataset = pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels, force=bare)
        except InvalidDicomError as error:
            raise SliceRejected(reasons.NOT_DICOM) from error
        except SliceRejected:
            raise
        except OSError as error:
            if error.errno not in _HEADERS_FAULT:
                raise
            raise SliceRejected(reasons.BAD_HEADER, type(error).__name__) from error
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
            dataset.file_meta.TransferSyntaxUID = _bare_syntax(*dataset.original_encoding)
    return dataset


def _bare_syntax(implicit: bool | None, little_endian: bool | None) -> str:
    """What a dataset without file meta information is written in."""
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _is_bare_dataset(start: bytes, size: int) -> bool | None:
    """True for a dataset without preamble and prefix.

    Such a dataset begins with a tag of group 0002 or 0008, as nearly all do, or with any other tag of the dictionary
    whose VR exists and whose value ends within the file.

    Args:
        start: the first bytes of the file.
        size: of the whole file, in bytes.

    False behind the prefix DICM, None where the file begins with neither.
    """
    if start[128:_PREAMBLE] == b"DICM":
        return False
    if len(start) >= 8 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0:
        return True
    return True if any(_begins_with_an_element(start, size, order) for order in "<>") else None


def _begins_with_an_element(start: bytes, size: int, order: str) -> bool:
    """Whether the first bytes are a known data element; in implicit VR only if its length is even (PS3.5 section 7)."""
    if len(start) < 12:
        return False
    group, element = struct.unpack_from(f"{order}HH", start)
    if not 0x0004 <= group < 0x7FE0:
        return False
    from pydicom.datadict import dictionary_has_tag
    from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

    if not dictionary_has_tag((group, element)):
        return False
    vr = start[4:6]
    if vr in {known.value.encode() for known in VR if len(known.value) == 2}:
        place, form = (8, "I") if vr in {long.value.encode() for long in EXPLICIT_VR_LENGTH_32} else (6, "H")
        (length,) = struct.unpack_from(f"{order}{form}", start, place)
        return length == _UNDEFINED or place + length <= size
    (length,) = struct.unpack_from("<I", start, 4)
    return order == "<" and length % 2 == 0 and 8 + length <= size


class _PartlyInflated(io.BufferedReader):
    """A file of so many bytes for pydicom, which reads to the end only what it then inflates, at once, without a limit.

    Where deflated data begin, and whether there are any, is pydicom's to find: a group length may lie about it.
    """

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self.size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any stream.

        Raises:
            SliceRejected: what would be inflated expands past the budget.
        """
        if size is not None and size >= 0:
            # Python makes room for all that is asked for before it reads: a length may say 2 GiB in a file of 10 KB.
            return super().read(min(size, self.size))
        data = super().read(DEFLATED_BUDGET + 1)
        _check_inflated_size(data)
        return data


def _check_inflated_size(data: bytes) -> None:
    """Inflate into nothing, counting: 1 MB can expand to 1 GB."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = len(data)
    while data and total <= DEFLATED_BUDGET and not inflater.eof:
        total += len(inflater.decompress(data, 1 << 20))
        data = inflater.unconsumed_tail
    if total > DEFLATED_BUDGET:
        raise SliceRejected(reasons.TOO_LARGE, f"inflates to more than {DEFLATED_BUDGET >> 20} MiB")

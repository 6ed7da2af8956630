"""What an object that comes in is: who, by its first elements alone, and whether scoring waits for it."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtvit_edge.dicom.header import FileRejected, read_fast_headers
from dtvit_edge.dicom.own_objects import is_own
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.suitability import is_bone_kernel, series_refusal
from dtvit_edge.dicom.uids import ExplicitVRBigEndian, ImplicitVRLittleEndian
from dtvit_edge.errors import SliceRejected

DEFLATED = "1.2.840.10008.1.2.1.99"
# As far as StudyInstanceUID lies behind the beginning, in any file that is no attack.
_REACH = 1 << 20
_STUDY = 0x0020000D
# SpecificCharacterSet, SOPClassUID, SOPInstanceUID, Manufacturer, ManufacturerModelName.
_WANTED = (0x00080005, 0x00080016, 0x00080018, 0x00080070, 0x00081090, _STUDY)


@dataclass(frozen=True)
class IncomingIdentity:
    """What an object says of itself; `own`: this program made it."""

    study_uid: str
    sop_uid: str
    sop_class: str
    own: bool


@dataclass(frozen=True)
class Relevance:
    """Whether a study's clock starts anew with a slice.

    Attributes:
        suitable: a result may come from it; bone: it does only if nothing softer is there.
    """

    suitable: bool
    bone: bool = False


def identity(data: bytes, syntax: str) -> IncomingIdentity | None:
    """Read who an object is; None where its first megabyte does not say.

    Args:
        data: the dataset, as it came; syntax: its transfer syntax.
    """
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    start = data[:_REACH]
    try:
        if syntax == DEFLATED:
            start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start, _REACH)
        with quiet():
            found: Any = read_dataset(
                io.BytesIO(start),
                syntax == ImplicitVRLittleEndian,
                syntax != ExplicitVRBigEndian,
                stop_when=lambda tag, vr, length: tag > _STUDY,
                specific_tags=[Tag(tag) for tag in _WANTED],
            )
            study_uid, sop_uid, sop_class = (
                str(found.get(keyword) or "") for keyword in ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID")
            )
            return IncomingIdentity(study_uid, sop_uid, sop_class, is_own(found))
    except Exception:  # pydicom raises nearly anything on bytes that are no dataset
        return None


def relevance(file: Path) -> Relevance:
    """What a slice that was kept means for its study's clock; one that is not of the common kind may be suitable."""
    try:
        headers = read_fast_headers(file, file.name, None)
    except (FileRejected, SliceRejected):
        return Relevance(False)
    if headers is None:
        return Relevance(True)
    return Relevance(series_refusal(headers) is None, is_bone_kernel(headers[0].kernel))

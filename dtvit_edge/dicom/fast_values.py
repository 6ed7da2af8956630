"""The elements that a slice's header asks for, from their bytes to the types that pydicom gives (PS3.5 section 6.2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

_LONGEST_INTEGER = 9  # digits that are always in the range of IS
unsigned = struct.Struct("<H").unpack
signed = struct.Struct("<h").unpack


class NotCommon(Exception):
    """Something out of the ordinary: pydicom has to look."""


def _one(raw: bytes) -> str:
    """A single text in ASCII, without its padding."""
    text = raw.rstrip(b" \0").decode("ascii")
    if not text.isprintable() or "\\" in text:
        raise NotCommon
    return text


def _texts(raw: bytes) -> Any:
    """A text, or several, as `_one`."""
    if b"\\" not in raw:
        return _one(raw)
    return [_one(part) for part in raw.split(b"\\")]


def _decimals(raw: bytes) -> Any:
    """A float, or several; None where there is no value."""
    text = raw.rstrip(b" \0")
    if not text:
        return None
    numbers = [float(part) for part in text.replace(b",", b".").split(b"\\")]
    return numbers if len(numbers) > 1 else numbers[0]


def _integer(raw: bytes) -> int | None:
    text = raw.rstrip(b" \0")
    if len(text) > _LONGEST_INTEGER:  # out of range, where pydicom makes a float of it
        raise NotCommon
    return int(text) if text else None


def _number(raw: bytes) -> int:
    number: int = unsigned(raw)[0]
    return number


def _characters(raw: bytes) -> bytes:
    return raw.rstrip(b" \0")


_US, _IS, _DS, _CS, _LO, _UI, _TM = (b"US",), (b"IS",), (b"DS",), (b"CS",), (b"LO",), (b"UI",), (b"TM",)


# What `header.py` asks for, by tag: keyword, VR, how to read it.
WANTED: dict[int, tuple[str, tuple[bytes, ...], Callable[[bytes], Any]]] = {
    0x00080005: ("SpecificCharacterSet", _CS, _characters),
    0x00080008: ("ImageType", _CS, _texts),
    0x00080016: ("SOPClassUID", _UI, _one),
    0x00080018: ("SOPInstanceUID", _UI, _one),
    0x00080020: ("StudyDate", (b"DA",), _texts),
    0x00080050: ("AccessionNumber", (b"SH",), _texts),
    0x00080060: ("Modality", _CS, _one),
    0x00080070: ("Manufacturer", _LO, _texts),
    0x00081010: ("StationName", (b"SH",), _texts),
    0x00081030: ("StudyDescription", _LO, _texts),
    0x0008103E: ("SeriesDescription", _LO, _texts),
    0x00081090: ("ManufacturerModelName", _LO, _texts),
    0x00100020: ("PatientID", _LO, _texts),
    0x00100021: ("IssuerOfPatientID", _LO, _texts),
    0x00101010: ("PatientAge", (b"AS",), _texts),
    0x00180010: ("ContrastBolusAgent", _LO, _texts),
    0x00180015: ("BodyPartExamined", _CS, _texts),
    0x00180050: ("SliceThickness", _DS, _decimals),
    0x00180060: ("KVP", _DS, _decimals),
    0x00181030: ("ProtocolName", _LO, _texts),
    0x00181040: ("ContrastBolusRoute", _LO, _texts),
    0x00181041: ("ContrastBolusVolume", _DS, _decimals),
    0x00181042: ("ContrastBolusStartTime", _TM, _texts),
    0x00181043: ("ContrastBolusStopTime", _TM, _texts),
    0x00181044: ("ContrastBolusTotalDose", _DS, _decimals),
    0x00181046: ("ContrastFlowRate", _DS, _decimals),
    0x00181048: ("ContrastBolusIngredient", _CS, _texts),
    0x00181210: ("ConvolutionKernel", (b"SH",), _texts),
    0x0020000D: ("StudyInstanceUID", _UI, _one),
    0x0020000E: ("SeriesInstanceUID", _UI, _one),
    0x00200013: ("InstanceNumber", _IS, _integer),
    0x00200032: ("ImagePositionPatient", _DS, _decimals),
    0x00200037: ("ImageOrientationPatient", _DS, _decimals),
    0x00200052: ("FrameOfReferenceUID", _UI, _one),
    0x00201002: ("ImagesInAcquisition", _IS, _integer),
    0x00201041: ("SliceLocation", _DS, _decimals),
    0x00280002: ("SamplesPerPixel", _US, _number),
    0x00280004: ("PhotometricInterpretation", _CS, _one),
    0x00280008: ("NumberOfFrames", _IS, _integer),
    0x00280010: ("Rows", _US, _number),
    0x00280011: ("Columns", _US, _number),
    0x00280030: ("PixelSpacing", _DS, _decimals),
    0x00280100: ("BitsAllocated", _US, _number),
    0x00280101: ("BitsStored", _US, _number),
    0x00280102: ("HighBit", _US, _number),
    0x00280103: ("PixelRepresentation", _US, _number),
    0x00280120: ("PixelPaddingValue", (b"US", b"SS"), bytes),
    0x00280121: ("PixelPaddingRangeLimit", (b"US", b"SS"), bytes),
    0x00281052: ("RescaleIntercept", _DS, _decimals),
    0x00281053: ("RescaleSlope", _DS, _decimals),
    0x00281054: ("RescaleType", _LO, _texts),
    0x00282110: ("LossyImageCompression", _CS, _texts),
}

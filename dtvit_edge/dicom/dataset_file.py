"""A dataset in memory as the bytes of a DICOM file, so that it is read as files are, within the same bounds."""

from __future__ import annotations

import copy
import struct
from typing import TYPE_CHECKING, Any

from dtvit_edge import reasons
from dtvit_edge.dicom.fast_header import COMPRESSED
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.uids import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from dtvit_edge.errors import SliceRejected

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.filebase import DicomIO

# Groups below are a command's and the file's own (PS3.7 section 6.3, PS3.10 section 7.1): no part of a dataset.
_FIRST_OF_THE_DATASET = 0x00040000
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DEFAULT_CHARACTERS = "iso8859"
# PS3.5 section 7.1.
_IMPLICIT, _SHORT, _LONG = (struct.Struct(form) for form in ("<HHI", "<HH2sH", "<HH2sHI"))


def file_bytes(dataset: Dataset) -> bytes:
    """A file that holds the dataset as it is, whether it has file meta information or not; the dataset stays as it is.

    Elements that nobody has asked for yet are copied byte by byte. Without a transfer syntax it is the one that the
    dataset was read in, else Explicit VR Little Endian.

    Raises:
        SliceRejected: it cannot be written, `bad_header`.
    """
    from pydicom.filebase import DicomBytesIO

    with quiet():
        try:
            syntax = _syntax(dataset)
            file = DicomBytesIO()
            file.write(bytes(128) + b"DICM" + _meta(dataset, syntax))
            file.is_implicit_VR = syntax == ImplicitVRLittleEndian
            file.is_little_endian = syntax != ExplicitVRBigEndian
            _write(file, dataset, syntax)
            return file.getvalue()
        except Exception as error:  # pydicom raises nearly anything on values that it cannot write
            raise SliceRejected(reasons.BAD_HEADER, type(error).__name__) from error


def _syntax(dataset: Dataset) -> str:
    meta = getattr(dataset, "file_meta", None) or {}
    if syntax := meta.get("TransferSyntaxUID"):
        return ExplicitVRLittleEndian if syntax == _DEFLATED else str(syntax)  # in memory it is inflated
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if little_endian is False else ExplicitVRLittleEndian


def _meta(dataset: Dataset, syntax: str) -> bytes:
    """File meta information (PS3.10 section 7.1), as much of it as a reader asks for."""
    storage_class = (getattr(dataset, "file_meta", None) or {}).get("MediaStorageSOPClassUID")
    elements = b""
    for number, uid in ((0x0002, storage_class), (0x0010, syntax)):
        if uid:
            text = str(uid).encode("ascii")
            text += bytes(len(text) % 2)
            elements += _SHORT.pack(2, number, b"UI", len(text)) + text
    return _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<I", len(elements)) + elements


def _write(file: DicomIO, dataset: Dataset, syntax: str) -> None:
    """Its own groups, as `pydicom.filewriter.write_dataset`, which takes ten times as long to copy them."""
    from pydicom.filewriter import write_data_element, write_dataset
    from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

    characters: Any = dataset.get("SpecificCharacterSet", _DEFAULT_CHARACTERS)
    unchanged = dataset.original_encoding == (file.is_implicit_VR, file.is_little_endian)
    same_characters = dataset.original_character_set == dataset._character_set  # write_dataset asks the same
    # Whoever has set or read the pixels of a compressed image may have left them without an undefined length.
    copied_pixels = syntax not in COMPRESSED or "PixelData" not in dataset or dataset.get_item("PixelData").is_raw
    if not (unchanged and same_characters and file.is_little_endian and copied_pixels):
        write_dataset(file, _own_groups(dataset, syntax))
        return
    for tag in sorted(dataset.keys()):
        if tag < _FIRST_OF_THE_DATASET or tag.element == 0:  # a group's length, retired, which may be wrong by now
            continue
        element: Any = dataset.get_item(tag)
        if element.is_raw and element.is_implicit_VR != file.is_implicit_VR:  # in a file of both kinds
            element = dataset[tag]
        if not element.is_raw or element.value is None or len(element.value) != element.length:
            write_data_element(file, element, characters)
            continue
        if file.is_implicit_VR:
            head = _IMPLICIT.pack(tag.group, tag.element, element.length)
        elif element.VR in EXPLICIT_VR_LENGTH_32:
            head = _LONG.pack(tag.group, tag.element, element.VR.encode(), 0, element.length)
        else:
            head = _SHORT.pack(tag.group, tag.element, element.VR.encode(), element.length)
        file.write(head)
        file.write(element.value)


def _own_groups(dataset: Dataset, syntax: str) -> Dataset:
    """The dataset without file meta information and commands; the elements are the same ones."""
    own: Any = dataset[_FIRST_OF_THE_DATASET:]
    if syntax in COMPRESSED and "PixelData" in own and not own.get_item("PixelData").is_raw:
        pixels = copy.copy(own["PixelData"])
        pixels.is_undefined_length = True  # PS3.5 section A.4, whatever the caller made of it
        own["PixelData"] = pixels
    return own

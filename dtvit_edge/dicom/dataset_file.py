"""A dataset in memory as the bytes of a DICOM file, so that it is read as files are, within the same bounds."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from dtvit_edge import reasons
from dtvit_edge.dicom.fast_header import COMPRESSED
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.uids import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from dtvit_edge.errors import SliceRejected

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset

# Groups below are a command's and the file's own (PS3.7 section 6.3, PS3.10 section 7.1): no part of a dataset.
_FIRST_OF_THE_DATASET = 0x00040000
_DEFLATED = "1.2.840.10008.1.2.1.99"


def file_bytes(dataset: Dataset) -> bytes:
    """A file that holds the dataset as it is, whether it has file meta information or not; the dataset stays as it is.

    Elements that nobody has asked for yet are copied byte by byte. Without a transfer syntax it is the one that the
    dataset was read in, else Explicit VR Little Endian.

    Raises:
        SliceRejected: it cannot be written, `bad_header`.
    """
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset, write_file_meta_info

    with quiet():
        try:
            meta = _meta(dataset)
            written = _written(dataset, meta.TransferSyntaxUID)
            file = DicomBytesIO()
            file.write(bytes(128) + b"DICM")
            write_file_meta_info(file, meta, enforce_standard=False)
            file.is_implicit_VR = meta.TransferSyntaxUID == ImplicitVRLittleEndian
            file.is_little_endian = meta.TransferSyntaxUID != ExplicitVRBigEndian
            write_dataset(file, written)
            return file.getvalue()
        except Exception as error:  # pydicom raises nearly anything on values that it cannot write
            raise SliceRejected(reasons.BAD_HEADER, type(error).__name__) from error


def _meta(dataset: Dataset) -> FileMetaDataset:
    from pydicom.dataset import FileMetaDataset

    meta = FileMetaDataset()
    meta.update(getattr(dataset, "file_meta", None) or {})
    meta.FileMetaInformationGroupLength = 0  # counted when it is written
    syntax = meta.get("TransferSyntaxUID")
    if not syntax:
        implicit, little_endian = dataset.original_encoding
        syntax = ExplicitVRBigEndian if little_endian is False else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else syntax
    elif syntax == _DEFLATED:  # in memory it is inflated
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _written(dataset: Dataset, syntax: str) -> Dataset:
    """The dataset's own groups; the elements are the same ones."""
    written: Any = dataset[_FIRST_OF_THE_DATASET:]
    if syntax in COMPRESSED and "PixelData" in written and not written.get_item("PixelData").is_raw:
        pixels = copy.copy(written["PixelData"])
        pixels.is_undefined_length = True  # PS3.5 section A.4, whatever the caller made of it
        written["PixelData"] = pixels
    return written

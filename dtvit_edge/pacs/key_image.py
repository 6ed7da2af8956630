"""The top slice of a flagged study as a secondary capture, the notice burned in, for viewers that show no SR."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.own_objects import MANUFACTURER, MODEL
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.environment import package_versions
from dtvit_edge.errors import SliceRejected
from dtvit_edge.pacs.evidence import Evidence
from dtvit_edge.pacs.patient import copy_patient_and_study
from dtvit_edge.pacs.statement import Statement
from dtvit_edge.pacs.structured_report import DESCRIPTION, SERIES_NUMBER, Naming
from dtvit_edge.pacs.uids import derived_uid
from dtvit_edge.preprocess.rescale_table import rescale_table
from dtvit_edge.spec import NOTICE, PreprocessSpec, Window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Small matrices are enlarged, so that the words fit.
_LEAST_SIDE = 512
_AMBER = (255, 200, 0)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def key_image(statement: Statement, found: Evidence, naming: Naming, spec: PreprocessSpec) -> Dataset | None:
    """The key image of a flagged study; None where there is nothing to show, or its pixels cannot be read again."""
    if not statement.flagged or found.top is None or found.top_header is None:
        return None
    picture = _picture(found.top_header, spec)
    if picture is None:
        return None
    value = f"{statement.probability:.4f} (threshold {statement.threshold:g})"
    _write_words(picture, ["AI, possible haemorrhage", f"P {value}"], [f"{NOTICE[0].upper()}{NOTICE[1:]}."])
    return _secondary_capture(statement, found, naming, picture)


def _picture(header: SliceHeader, spec: PreprocessSpec) -> NDArray[np.uint8] | None:
    """The slice in the brain window, (rows, columns, 3) RGB."""
    import cv2

    try:
        with ParallelReader(fast=True) as reader:
            stored = reader.read(header).stored
        table = rescale_table(header.encoding, replace(spec, windows=(Window(),)))
    except SliceRejected:
        return None
    grey = np.asarray(table[0][stored], dtype=np.uint8)
    scale = max(1.0, _LEAST_SIDE / min(grey.shape))
    if scale > 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _write_words(picture: NDArray[np.uint8], above: list[str], below: list[str]) -> None:
    """Burn lines into the picture's upper and lower edge, on black."""
    import cv2

    height, width = picture.shape[:2]
    size = width / 1000
    line = max(int(40 * size), 14)
    picture[: line * len(above) + line // 3] = 0
    picture[height - line * len(below) - line // 3 :] = 0
    places = [line * (i + 1) - line // 5 for i in range(len(above))]
    places += [height - line * (len(below) - i - 1) - line // 2 for i in range(len(below))]
    for text, y in zip([*above, *below], places, strict=True):
        cv2.putText(picture, text, (line // 2, y), cv2.FONT_HERSHEY_SIMPLEX, size, _AMBER, 1, cv2.LINE_AA)


def _secondary_capture(statement: Statement, found: Evidence, naming: Naming, picture: NDArray[np.uint8]) -> Dataset:
    """PS3.3 A.8.1, of an image that is a copy of another one's pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    assert found.top is not None
    made: Any = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = derived_uid("key image", naming.sop_uid)
    made.SeriesInstanceUID = derived_uid("key images", naming.series_uid)
    made.SeriesNumber, made.InstanceNumber = SERIES_NUMBER + 1, naming.number
    made.Modality, made.ConversionType = "OT", "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.SeriesDescription, made.BodyPartExamined = DESCRIPTION, "HEAD"
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, MODEL
    made.SoftwareVersions = package_versions().get("dtvit-edge", "unknown")
    made.ContentDate, made.ContentTime = naming.made.strftime("%Y%m%d"), naming.made.strftime("%H%M%S")
    made.PatientOrientation = ""
    made.BurnedInAnnotation = "YES"
    made.DerivationDescription = "Top slice in the brain window, words burned in"
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = found.top.sop_class, found.top.sop_uid
    made.SourceImageSequence = [source]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = picture.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = picture.tobytes()
    made.add_new("PixelData", "OB", data + bytes(len(data) % 2))
    with quiet():
        copy_patient_and_study(found.source, made)
    return made

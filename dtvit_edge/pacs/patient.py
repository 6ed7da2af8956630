"""Patient and study as the images name them: copied byte by byte, in the images' own character set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Patient (PS3.3 C.7.1.1) and General Study (C.7.2.1): who it is, and which examination. No comments, no history.
_IDENTIFYING = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "PatientBirthDate", "PatientBirthTime",
    "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription",
    "ReferringPhysicianName", "PatientAge", "PatientIdentityRemoved", "DeidentificationMethod",
)  # fmt: skip
# Type 2: an object without them is not valid.
_ASKED_FOR = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "StudyID", "ReferringPhysicianName",
)  # fmt: skip
# An order that the study answers (PS3.3 C.17.2, Referenced Request Sequence), and where images say it (C.7.3.1.1.1).
_ORDER = (
    "AccessionNumber", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID", "RequestedProcedureDescription",
)  # fmt: skip
_SEQUENCES_OF_AN_ORDER = ("ReferencedStudySequence", "RequestedProcedureCodeSequence")


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Copy who and which examination it is; what the images lack is empty where an object has to have it."""
    if (characters := source.get("SpecificCharacterSet")) not in (None, ""):
        target.SpecificCharacterSet = characters
    elif "SpecificCharacterSet" in target:
        del target.SpecificCharacterSet
    _copy(_IDENTIFYING, source, target)
    _empty(_ASKED_FOR, target)
    if "DeidentificationMethod" not in target and "PatientIdentityRemoved" in target:
        del target.PatientIdentityRemoved  # the one without the other is not valid
    if (issuer := source.get("IssuerOfAccessionNumberSequence")) is not None and len(issuer):
        target.IssuerOfAccessionNumberSequence = issuer
    # Else pydicom would decode all of it when it writes, and encode it anew.
    target.set_original_encoding(False, True, target._character_set)


def referenced_requests(source: Dataset) -> list[Dataset]:
    """The orders that the images name."""
    from pydicom.dataset import Dataset

    items: list[Dataset] = list(source.get("RequestAttributesSequence") or [])
    if not items and source.get("RequestedProcedureID"):
        items = [source]
    orders = []
    for item in items:
        order = Dataset()
        order.StudyInstanceUID = str(item.get("StudyInstanceUID") or source.StudyInstanceUID)
        _copy(_ORDER, item, order)
        if not order.get("AccessionNumber"):
            _copy(("AccessionNumber",), source, order)
        _empty(_ORDER, order)
        for keyword in _SEQUENCES_OF_AN_ORDER:
            setattr(order, keyword, item.get(keyword) or [])
        orders.append(order)
    return orders


def _copy(keywords: Iterable[str], source: Dataset, target: Dataset) -> None:
    """Copy elements as they are stored: what nobody decodes, no character set can change."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    for keyword in keywords:
        tag = Tag(tag_for_keyword(keyword) or 0)
        if tag not in source:
            continue
        element: Any = source.get_item(tag)
        if not (element.value if element.is_raw else str(element.value)):
            continue  # what has to be there all the same, is empty below
        if not element.is_raw:
            target.add(element)
            continue
        value = element.value
        target[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


def _empty(keywords: Iterable[str], target: Dataset) -> None:
    for keyword in keywords:
        if keyword not in target:
            setattr(target, keyword, None)

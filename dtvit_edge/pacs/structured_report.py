"""A study's result as DICOM SR: TID 1500 with the algorithm by TID 4019 (PS3.16), by highdicom.

Its content uses nothing that Comprehensive SR lacks, so that the same document goes out under that class where a peer
refuses Comprehensive 3D SR. All text of ours is ASCII: the patient's name keeps the images' character set.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dtvit_edge.dicom.own_objects import MANUFACTURER, MODEL
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.environment import package_versions
from dtvit_edge.pacs.codes import (
    ABSENT,
    COMMENT,
    CT,
    FINDING,
    LOCATION,
    LOCATIONS,
    NAME,
    PRESENT,
    PROBABILITY,
    REASON,
    SCHEME,
    STATUS,
)  # fmt: skip
from dtvit_edge.pacs.evidence import Evidence, Instance
from dtvit_edge.pacs.patient import copy_patient_and_study, referenced_requests
from dtvit_edge.pacs.statement import Statement, ascii_text
from dtvit_edge.pacs.uids import derived_uid
from dtvit_edge.reasons import STUDY_REASONS, Status
from dtvit_edge.report.words import TRAINED
from dtvit_edge.spec import NOT_FLAGGED_NOTE, NOTICE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

COMPREHENSIVE_3D, COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.33"
DESCRIPTION = "ICH triage, research use only"
# Behind every series of a scanner and of a workstation.
SERIES_NUMBER = 9001


@dataclass(frozen=True)
class Naming:
    """The UIDs of an object, and what came before it.

    Attributes:
        device_uid: of who made it.
        number: InstanceNumber, from 1; predecessors: SOP class and UID of earlier ones, in the same series.
        made: its date and time, local as those of the images are.
    """

    series_uid: str
    sop_uid: str
    device_uid: str
    made: datetime
    number: int = 1
    predecessors: tuple[tuple[str, str], ...] = ()


def structured_report(statement: Statement, found: Evidence, naming: Naming, remarks: Iterable[str] = ()) -> Dataset:
    """The SR of a study.

    Args:
        remarks: more text for people.
    """
    from highdicom.sr import Comprehensive3DSR

    with quiet():
        report = Comprehensive3DSR(
            evidence=[_reference(statement.study_uid, i) for i in (found.scored or found.other)],
            content=_content(statement, found, naming, remarks)[0],
            series_instance_uid=naming.series_uid,
            series_number=SERIES_NUMBER,
            sop_instance_uid=naming.sop_uid,
            instance_number=naming.number,
            is_complete=statement.status is Status.SCORED,
            is_final=False,
            is_verified=False,
            **_equipment(naming),
        )
        report.pop("ContributingEquipmentSequence", None)  # highdicom names itself, with the time of this call
        report.InstanceCreationDate, report.InstanceCreationTime = report.ContentDate, report.ContentTime
        if statement.status is not Status.SCORED:
            why = "; ".join(statement.reasons) or str(statement.status)
            report.CompletionFlagDescription = ascii_text(why)[:64]
        _list("CurrentRequestedProcedureEvidenceSequence", report, statement.study_uid, found.scored)
        _list("PertinentOtherEvidenceSequence", report, statement.study_uid, found.other)
        if naming.predecessors:
            before = [Instance(naming.series_uid, uid, sop_class) for sop_class, uid in naming.predecessors]
            _list("PredecessorDocumentsSequence", report, statement.study_uid, before)
        copy_patient_and_study(found.source, report)
        if orders := referenced_requests(found.source):
            report.ReferencedRequestSequence = orders
        return report


def object_bytes(dataset: Dataset) -> bytes:
    """An object as a file."""
    stream = io.BytesIO()
    with quiet():
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def prepare() -> None:
    """Make an SR of nobody, so that the first one of a patient does not wait for what has to be loaded: a second."""
    from pydicom.dataset import Dataset

    source = Dataset()
    source.StudyInstanceUID = "2.25.1"
    source.set_original_encoding(False, True, "iso8859")
    image = Instance("2.25.2", "2.25.3", COMPREHENSIVE)
    nothing = Statement("2.25.1", Status.NOT_SCORED, (), None, 0.0, "", "", "", "", "", 0.5, "", "", {})
    naming = Naming("2.25.4", "2.25.5", "2.25.6", datetime(2000, 1, 1))
    object_bytes(structured_report(nothing, Evidence("2.25.1", (image,), (), source, image, None), naming))


def as_comprehensive(data: bytes) -> bytes:
    """An SR's bytes under the class Comprehensive SR, for a peer that refuses Comprehensive 3D SR."""
    import pydicom

    with quiet():
        report = pydicom.dcmread(io.BytesIO(data))
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = COMPREHENSIVE
    return object_bytes(report)


def _equipment(naming: Naming) -> dict[str, Any]:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    version = package_versions().get("dtvit-edge", "unknown")
    private = CodingSchemeIdentificationItem(
        designator=SCHEME, name=NAME, version=version, responsible_organization=MANUFACTURER
    )
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": version,
        "device_serial_number": naming.device_uid[-16:],
        "series_description": DESCRIPTION,
        "content_date": naming.made.date(),
        "content_time": naming.made.time().replace(microsecond=0),
        "coding_schemes": [private],
    }


def _content(statement: Statement, found: Evidence, naming: Naming, remarks: Iterable[str]) -> Any:
    from highdicom import sr

    algorithm = sr.AlgorithmIdentification(
        name="DTViT",
        version=package_versions().get("dtvit-edge", "unknown"),
        manufacturer=MANUFACTURER,
        family=_code(("123109", "DCM", "Artificial Intelligence")),
        parameters=statement.parameters,
    )
    measurements, evaluations = [], []
    if statement.probability is not None:
        no_units = _code(("1", "UCUM", "no units"))
        value = float(statement.probability)
        measurements.append(sr.Measurement(name=_code(PROBABILITY), value=value, unit=no_units))
    if statement.flagged is not None:
        value_code = _code(PRESENT if statement.flagged else ABSENT)
        evaluations.append(sr.QualitativeEvaluation(name=_code(FINDING), value=value_code))
    if statement.location:
        evaluations.append(sr.QualitativeEvaluation(name=_code(LOCATION), value=_code(LOCATIONS[statement.location])))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=derived_uid("tracking", naming.series_uid), identifier="intracerebral haemorrhage"
        ),
        # A viewer may show this alone, as what was found.
        finding_type=_code(FINDING) if statement.flagged else None,
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=None if found.top is None else [_source_image(found)],
    )
    group[0].ContentSequence.extend(_texts(statement, remarks))
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=naming.device_uid, name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=MODEL
    )
    observer = sr.ObserverContext(
        observer_type=_code(("121007", "DCM", "Device")), observer_identifying_attributes=device
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_code(CT),
        imaging_measurements=[group],
        title=_code(("126000", "DCM", "Imaging Measurement Report")),
    )


def _texts(statement: Statement, remarks: Iterable[str]) -> list[Any]:
    """Status, reasons, and what people have to know."""
    said = [(STATUS, str(statement.status))]
    said += [(REASON, f"{code}: {STUDY_REASONS.get(code, 'no sentence')}") for code in statement.reasons]
    said.append((COMMENT, f"{NOTICE[0].upper()}{NOTICE[1:]}. Not verified by a person."))
    if not statement.flagged:
        said.append((COMMENT, NOT_FLAGGED_NOTE))
    said.append((COMMENT, TRAINED.get(statement.model_status, statement.model_status)))
    said += [(COMMENT, remark) for remark in remarks]
    return [_text(name, text) for name, text in said]


def _text(name: tuple[str, str, str], text: str) -> Any:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    return TextContentItem(name=_code(name), value=ascii_text(text), relationship_type=RelationshipTypeValues.CONTAINS)


def _code(code: tuple[str, str, str]) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(*code)


def _source_image(found: Evidence) -> Any:
    """The top slice, with its frame where the file has several."""
    from highdicom.sr import SourceImageForMeasurementGroup

    assert found.top is not None
    header = found.top_header
    return SourceImageForMeasurementGroup(
        referenced_sop_class_uid=found.top.sop_class,
        referenced_sop_instance_uid=found.top.sop_uid,
        referenced_frame_numbers=[header.frame] if header is not None and header.frames > 1 else None,
    )


def _reference(study_uid: str, instance: Instance) -> Dataset:
    """An instance as highdicom asks for it; nothing of a patient, which is copied at the end."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = instance.sop_class, instance.sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, instance.series_uid
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(dataset, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        setattr(dataset, keyword, "")
    return dataset


def _list(keyword: str, report: Dataset, study_uid: str, instances: Iterable[Instance]) -> None:
    """Instances by study and series (PS3.3 table C.17-3)."""
    from pydicom.dataset import Dataset

    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.sop_class, instance.sop_uid
        by_series[instance.series_uid].append(item)
    if keyword in report:
        del report[keyword]
    if not by_series:
        return
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series_uid, items in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = items
        study.ReferencedSeriesSequence.append(series)
    setattr(report, keyword, [study])

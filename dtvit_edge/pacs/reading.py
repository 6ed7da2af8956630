"""What an SR of ours says, read back; anybody may have written the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.own_objects import is_own
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.pacs.codes import ABSENT, FINDING, LOCATION, LOCATIONS, PRESENT, PROBABILITY, REASON, STATUS, Concept
from dtvit_edge.pacs.statement import Statement, read_parameters
from dtvit_edge.reasons import Status

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PARAMETERS: Concept = ("111002", "DCM", "Algorithm Parameters")
_SOURCE = {("260753009", "SCT"), ("121112", "DCM"), ("121233", "DCM")}  # as highdicom has named the source image
_MOST_ITEMS = 10_000


def read_statement(file: Path) -> Statement:
    """Read what an SR says.

    Raises:
        ConfigError: it cannot be read, or is no SR that this program wrote.
    """
    try:
        dataset = open_dataset(file)
        if not is_own(dataset) or "ContentSequence" not in dataset:
            raise ConfigError(f"{file.name} is no SR of this program")
        with quiet():
            return statement_of_object(dataset)
    except SliceRejected as error:
        raise ConfigError(f"{file.name} cannot be read: {error.reason.sentence}") from error
    except ConfigError:
        raise
    except Exception as error:  # values of the wrong type anywhere in the document
        raise ConfigError(f"{file.name} is not as this program writes it: {type(error).__name__}") from error


def evidence_uids(dataset: Dataset) -> set[str]:
    """The SOP instance UIDs that an SR refers to."""
    keywords = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
    return {
        str(instance.ReferencedSOPInstanceUID)
        for keyword in keywords
        for study in dataset.get(keyword) or []
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def statement_of_object(dataset: Dataset) -> Statement:
    """What an SR of this program says.

    Raises:
        Exception: of any kind, where it is not as this program writes it.
    """
    items = list(_items(dataset))
    named = [(_code(item.ConceptNameCodeSequence), item) for item in items if item.get("ConceptNameCodeSequence")]

    def of(concept: Concept) -> list[Any]:
        return [item for name, item in named if name == concept[:2]]

    (status,) = [Status(str(item.TextValue)) for item in of(STATUS)]
    origin = read_parameters([str(item.TextValue) for item in of(_PARAMETERS)])
    sources = [item for name, item in named if name in _SOURCE and item.ValueType == "IMAGE"]
    top = _one([item.ReferencedSOPSequence[0] for item in sources])
    return Statement(
        study_uid=str(dataset.StudyInstanceUID),
        status=status,
        reasons=tuple(str(item.TextValue).partition(":")[0] for item in of(REASON)),
        flagged=_one([_presence(item) for item in of(FINDING) if item.ValueType == "CODE"]),
        probability=_one([_number(item) for item in of(PROBABILITY)]),
        location=_one([_location(item) for item in of(LOCATION)]) or "",
        top_sop_uid="" if top is None else str(top.ReferencedSOPInstanceUID),
        top_frame=1 if top is None else int(top.get("ReferencedFrameNumber") or 1),
        **origin,
    )


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Every content item, without recursion: a document can be nested deeper than Python's stack."""
    todo = [dataset]
    seen = 0
    while todo:
        item = todo.pop()
        seen += 1
        if seen > _MOST_ITEMS:
            raise ValueError("too many content items")
        yield item
        todo += reversed(list(item.get("ContentSequence") or []))


def _one(found: list[Any]) -> Any:
    if len(found) > 1:
        raise ValueError("said twice")
    return found[0] if found else None


def _code(sequence: Any) -> tuple[str, str]:
    (code,) = sequence
    return str(code.CodeValue), str(code.CodingSchemeDesignator)


def _presence(item: Any) -> bool:
    return {PRESENT[:2]: True, ABSENT[:2]: False}[_code(item.ConceptCodeSequence)]


def _location(item: Any) -> str:
    return {code[:2]: label for label, code in LOCATIONS.items()}[_code(item.ConceptCodeSequence)]


def _number(item: Any) -> float:
    value = float(item.MeasuredValueSequence[0].NumericValue)
    if not math.isfinite(value):
        raise ValueError(value)
    return value

"""The concepts of our objects: (code value, scheme, meaning), public ones where there are any."""

from __future__ import annotations

from typing import TypeAlias

from dtvit_edge.spec import LOCATION_LABELS

Concept: TypeAlias = tuple[str, str, str]

# Public: SNOMED CT and DICOM (PS3.16).
FINDING: Concept = ("274100004", "SCT", "Cerebral hemorrhage")
PRESENT: Concept = ("52101004", "SCT", "Present")
ABSENT: Concept = ("2667000", "SCT", "Absent")
CT: Concept = ("77477000", "SCT", "Computed tomography")
COMMENT: Concept = ("121106", "DCM", "Comment")

# Our own; each object declares the scheme (CodingSchemeIdentificationSequence).
SCHEME, NAME = "99DTVIT", "dtvit-edge"
PROBABILITY: Concept = ("DT001", SCHEME, "Probability of intracerebral haemorrhage")
STATUS: Concept = ("DT002", SCHEME, "Status of the result")
REASON: Concept = ("DT003", SCHEME, "Why the study is not whole")
LOCATION: Concept = ("DT004", SCHEME, "Likeliest location, given haemorrhage")
LOCATIONS: dict[str, Concept] = {
    label: (f"DT{101 + i}", SCHEME, label.capitalize()) for i, label in enumerate(LOCATION_LABELS)
}

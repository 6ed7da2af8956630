from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.dicom.contrast import described_contrast, is_contrast, names_agent
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.wording import fold
from tests.support.dicom_files import item, save


@pytest.mark.parametrize(
    "agent",
    """NONE|none|No|N|NON CONTRAST|NONCONTRAST|Non-Contrast|NO CONTRAST GIVEN|W/O|w.o.|WITHOUT
    |WITHOUT IV CONTRAST|UNENHANCED|PLAIN|N/A|n.a.|NA|NIL|Nil contrast|NATIVE|0|0 ML|0.0|000|Not Applicable|ohne
    |Ohne KM|o. KM|nativ|kein|keine|Kein KM|sans|sans injection|non injecté|Sans PDC|aucun|sin|sin contraste|S/C
    |ninguno|senza|senza mdc|SMDC|s/mdc|basale|nessuno|sem|sem contraste|não|nenhum""".replace("\n    ", "").split("|"),
)  # fmt: skip
def test_an_agent_that_says_none_is_none(agent: str) -> None:
    assert names_agent(agent) is False


@pytest.mark.parametrize("agent", ["", " ", "-", "--", "?", "...", "UNKNOWN"])
def test_an_agent_of_punctuation_says_nothing(agent: str) -> None:
    assert names_agent(agent) is None


@pytest.mark.parametrize(
    "agent",
    ["ISOVUE300/100", "OMNIPAQUE 350", "IV", "CONTRAST", "KM", "Non-ionic contrast", "NO ALLERGY OMNIPAQUE", "100 ML",
     "X", "ULTRAVIST 0.623", "Oral", "YES", "APPLIED", "50", "Imeron nativ 300"],
)  # fmt: skip
def test_anything_else_is_an_agent(agent: str) -> None:
    assert names_agent(agent) is True


TAGS: dict[str, tuple[dict[str, Any], bool | None]] = {
    "nothing": ({}, None),
    "an agent": ({"ContrastBolusAgent": "ISOVUE300/100"}, True),
    "an empty agent": ({"ContrastBolusAgent": ""}, None),
    "an agent called none": ({"ContrastBolusAgent": "none"}, False),
    "two agents, one of them none": ({"ContrastBolusAgent": ["NONE", "ISOVUE"]}, True),
    "a route": ({"ContrastBolusAgent": "", "ContrastBolusRoute": "IV"}, True),
    "a route that is none": ({"ContrastBolusRoute": "NONE"}, None),
    "a volume": ({"ContrastBolusAgent": "", "ContrastBolusVolume": "75"}, True),
    "a volume of 0": ({"ContrastBolusVolume": "0"}, None),
    "a volume beside an agent called none": ({"ContrastBolusAgent": "NONE", "ContrastBolusVolume": "75"}, True),
    "a route beside an agent called none": ({"ContrastBolusAgent": "NONE", "ContrastBolusRoute": "IV"}, False),
    "a start time": ({"ContrastBolusStartTime": "101500"}, True),
    "a dose": ({"ContrastBolusTotalDose": "30"}, True),
    "a coded agent": ({"ContrastBolusAgentSequence": [item(CodeMeaning="Iohexol")]}, True),
    "an agent coded as none": ({"ContrastBolusAgentSequence": [item(CodeMeaning="No contrast agent")]}, False),
    "a code without meaning": ({"ContrastBolusAgentSequence": [item(CodeValue="1")]}, True),
    "an ingredient": ({"ContrastBolusIngredient": "IODINE"}, True),
}


@pytest.mark.parametrize("name", TAGS)
def test_what_the_tags_say_of_an_agent(tmp_path: Path, name: str) -> None:
    changes, expected = TAGS[name]
    (header,) = read_headers(save(tmp_path / "a", **changes), "a")
    assert header.contrast is expected
    assert read_headers(tmp_path / "a", "a", fast=False) == (header,)


WITHOUT = """HEAD 5MM W/O|CT HEAD WITHOUT CONTRAST|Head w/o IV Contrast|BRAIN WO|NON-CON HEAD|NCCT
    |Brain NonContrast|HEAD C-|Kopf nativ|Schädel ohne KM|CT Kopf o. KM|TDM cérébrale sans injection
    |crâne non injecté|TAC craneo sin contraste|CRANEO SIMPLE|S/C|S/ CONTRASTE|TC cranio senza mdc|CRANIO BASALE
    |TC de crânio sem contraste|PRE CONTRAST|PRE|Unenhanced head|PLAIN HEAD|no contrast|CT HEAD/BRAIN W/O DYE
    |HEAD -C"""
WITH = """CTA HEAD 0.6|CTA|CT ANGIO HEAD|CT ANGIOGRAPHY|AngioCT|CTV|CT VENOGRAM|HEAD WITH CONTRAST
    |HEAD W CONTRAST|W/ CONTRAST|POST CONTRAST|HEAD C+|Head C+ 5.0|HEAD +C|HEAD + C|Kopf + KM|Kopf mit KM
    |crâne avec injection|cerebro con contraste|C/C|C/CONTRASTE|cranio con mdc|crânio com contraste|CT HEAD WITH
    |HEAD W|Head W IV Con|venous phase|CIRCLE OF WILLIS|Angio-TC"""
BOTH = """CT HEAD W/O + CTA|CT HEAD W/WO CONTRAST|CT HEAD W & W/O|BRAIN WITH AND WITHOUT CONTRAST
    |W/O AND W CONTRAST|Kopf nativ + KM|sans et avec injection|sin y con contraste|senza e con mdc|WITHOUT/WITH"""
NEITHER = """HEAD 5MM|AXIAL 5 MM SOFT|C-SPINE|HEAD + C-SPINE|BRAIN/C SPINE|POST OP HEAD|PRE-OP HEAD
    |HEAD POSTERIOR FOSSA|e+1|H30s|VNC|Virtual non-contrast|HEAD WITH BONE|CERVICAL|Kopf|WORK
    |Crâne avec coupes fines|HEADACHE
    |1A TRAUMA/HEAD DM"""


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", "").split("|")]


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (description, answers)
        for text, answers in ((WITHOUT, {False}), (WITH, {True}), (BOTH, {True, False}), (NEITHER, set()))
        for description in listed(text)
    ],
)
def test_what_a_description_says_of_contrast(description: str, expected: set[bool]) -> None:
    assert described_contrast(fold(description)) == expected


@pytest.mark.parametrize(
    ("tagged", "series", "protocol", "study", "expected"),
    [
        (None, "HEAD 5MM W/O", "", "CT HEAD W/O + CTA", False),
        (None, "HEAD 5MM", "", "CT HEAD W/O + CTA", None),
        (None, "CTA 0.6", "", "CT HEAD W/O", True),
        (None, "AX 5MM", "", "CTA HEAD", True),
        (None, "AX 5MM", "HEAD W/O", "CTA HEAD", False),
        (None, "AX 5MM", "CTA", "HEAD W/O", True),
        (None, "W/WO", "", "CTA HEAD", None),
        (False, "AX 5MM", "", "CTA HEAD", False),
        (False, "CTA 0.6", "", "", True),
        (True, "HEAD 5MM W/O", "", "", True),
        (None, "", "", "", None),
    ],
)
def test_the_series_description_outweighs_the_protocol_and_that_the_study(
    tagged: bool | None, series: str, protocol: str, study: str, expected: bool | None
) -> None:
    assert is_contrast(tagged, series, protocol, study) is expected

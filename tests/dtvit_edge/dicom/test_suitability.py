from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.suitability import (
    is_bone_kernel,
    is_head,
    series_doubts,
    series_refusal,
    series_warnings,
)
from dtvit_edge.dicom.wording import fold
from dtvit_edge.reasons import STUDY_REASONS
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding

GOOD = SliceHeader(
    Path("x"), "x", Identity("1", "2", "3"), 1, 1, 512, 512, PixelEncoding(), kvp=120, kernel="H31S",
    body_part="HEAD", position_mm=(0, 0, 0), orientation=((1, 0, 0), (0, 1, 0)),
)  # fmt: skip
TEXTS = ("series_description", "study_description", "protocol", "image_type", "body_part")


def slices(count: int = 1, **changes: Any) -> list[SliceHeader]:
    """Slices of a suitable series with other values; texts are folded, as headers are."""
    folded = {key: fold(value) if key in TEXTS else value for key, value in changes.items()}
    return [replace(GOOD, **folded)] * count


def code(**changes: Any) -> str | None:
    refusal = series_refusal(slices(**changes))
    return refusal.code if refusal else None


def test_a_plain_head_series_is_suitable_without_warnings() -> None:
    assert code() is None
    assert series_warnings([GOOD]) == ()
    assert series_doubts([GOOD]) == ()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "contrast": ({"contrast": True}, "contrast"),
    "another part": ({"body_part": "CHEST"}, "not_head"),
    "coronal": ({"orientation": ((1, 0, 0), (0, 0, -1))}, "not_axial"),
    "low kV": ({"kvp": 80.0}, "kvp"),
    "high kV": ({"kvp": 141.0}, "kvp"),
    "an infant at 80 kV": ({"kvp": 80.0, "age_years": 2.9}, "paediatric"),
    "a child at 80 kV": ({"kvp": 80.0, "age_years": 3.0}, "kvp"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_series_is_what_most_of_its_slices_say(name: str) -> None:
    changes, expected = REFUSED[name]
    refused = slices(10, **changes)
    for others in (0, 9, 10):
        refusal = series_refusal(refused + [GOOD] * others)
        assert refusal is not None and refusal.code == expected
    assert series_refusal(refused + [GOOD] * 11) is None
    assert "mixed_tags" in series_warnings(refused + [GOOD] * 11)
    assert "mixed_tags" not in series_warnings(refused)


@pytest.mark.parametrize("kvp", [100.0, 140.0])
def test_the_ends_of_the_voltage_range_are_inside(kvp: float) -> None:
    assert code(kvp=kvp) is None


def test_an_infant_at_120_kv_is_suitable() -> None:
    assert code(kvp=120.0, age_years=0.1) is None


def test_missing_tags_warn_and_do_not_refuse() -> None:
    bare = replace(GOOD, kvp=None, kernel=None, body_part="", orientation=None, position_mm=None)
    assert series_refusal([bare]) is None
    assert series_warnings([bare]) == ("anatomy_unknown", "kvp_unknown", "kernel_unknown", "geometry_unknown")


def test_a_study_of_both_kinds_says_nothing_of_a_silent_series() -> None:
    both = slices(series_description="AX 5MM", study_description="CT HEAD W/O + CTA")
    assert series_refusal(both) is None
    assert series_warnings(both) == ("contrast_unknown",)
    assert code(series_description="CTA 0.6", study_description="CT HEAD W/O + CTA") == "contrast"


MAPS = """CBF|rCBV|MTT|Tmax|TMAX6S|TTP|Perfusion 5.0|CT PERFUSION MAPS|PENUMBRA|Iodine Density
    |Iodine no Water[mg/ml]|Z Eff|Zeff|Z Effective|Electron Density[%EDW]|Rho|MIP|AX MIP 10|THIN MIPs|tMIP|MinIP
    |MNIP|VRT|VR HEAD|3D HEAD|Volume Rendering|SSD|DSA|Subtraction|SUBTR HEAD|Bone removal|COLOR|CBF color map
    |Jod|IODE|Head MIP 5/3|Fused"""
SLICES = """HEAD 5MM|AX MPR 5.0|AVERAGE 5MM|THICK 5|HEAD 0.625 STD|AX 5 mm Brain|Head 5.0 MPR ax|IMPRESSION
    |TIP OF NOSE TO VERTEX|Zoom|MPR Range[1]|BRAIN ST|Kopf 5.0 H30s|Dynamic range|2.5 SOFT HEAD"""


@pytest.mark.parametrize("description", [d.strip() for d in MAPS.replace("\n", "").split("|")])
def test_maps_and_projections_are_no_hu(description: str) -> None:
    assert code(series_description=description) == "not_hu"


@pytest.mark.parametrize("description", [d.strip() for d in SLICES.replace("\n", "").split("|")])
def test_reformatted_and_averaged_slices_are_suitable(description: str) -> None:
    assert code(series_description=description, body_part="HEAD") is None


OTHER = """C-SPINE|CSPINE|C SPINE 2.0|CSpine|Cervical|SINUS|SINUSES|Facial Bones|MAXILLOFACIAL|Maxillo-facial
    |TEMPORAL BONE|Temporal Bones|IAC|ORBIT|ORBITS|DENTAL|NECK|CAROTID|Mandible|HWS|Hals|Felsenbein|NNH
    |Nasennebenhöhlen|Gesichtsschädel|Mittelgesicht|Rachis cervical|Massif facial|Rochers|Sinus de la face
    |Senos paranasales|Columna cervical|Cuello|Seni paranasali|Rachide cervicale|Massiccio facciale
    |Seios da face|Coluna cervical|Pescoço|Femoral head|Thorax|NEURO C-SPINE"""
HEADS = """HEAD|Brain 5mm|HEAD AND NECK|HeadSeq|HeadRoutine|Kopf|CCT|Schädel|Hirnschädel|Tête|Crâne|cérébral
    |Cabeza|Cráneo|Cerebro|Testa|Cranio|encefalo|Cabeça|Crânio|NEURO|Head 1 mm C- SPINE|Skull base"""


@pytest.mark.parametrize("body_part", ["", "HEAD"])
@pytest.mark.parametrize("description", [d.strip() for d in OTHER.replace("\n", "").split("|")])
def test_another_part_in_the_series_description_outweighs_all_else(description: str, body_part: str) -> None:
    assert code(series_description=description, body_part=body_part, study_description="CT BRAIN") == "not_head"


@pytest.mark.parametrize("description", [d.strip() for d in HEADS.replace("\n", "").split("|")])
def test_the_head_is_known_in_six_languages(description: str) -> None:
    assert is_head(slices(series_description=description, body_part="")[0]) is True


@pytest.mark.parametrize(
    ("body_part", "protocol", "study", "expected", "contradict"),
    [
        ("HEAD", "", "", True, False),
        ("HEAD", "", "CHEST ROUTINE", True, True),
        ("CHEST", "", "CT BRAIN", True, True),
        ("NECK", "Head routine", "", True, True),
        ("", "", "CT BRAIN W/O CONTRAST", True, False),
        ("", "", "HELICAL CHEST", False, False),
        ("NECK", "", "", False, False),
        ("", "", "", None, False),
        ("", "", "E+1", None, False),
        ("", "", "ROUTINE HEADACHE CLINIC", None, False),
    ],
)
def test_one_tag_that_names_the_head_is_enough_and_a_contradiction_is_a_warning(
    body_part: str, protocol: str, study: str, expected: bool | None, contradict: bool
) -> None:
    headers = slices(body_part=body_part, protocol=protocol, study_description=study)
    assert is_head(headers[0]) is expected
    assert ("tags_contradict" in series_warnings(headers)) is contradict


@pytest.mark.parametrize(
    "changes",
    [
        {"image_type": "DERIVED PRIMARY AXIAL MIXED", "kvp": 80.0},
        {"image_type": "ORIGINAL PRIMARY AXIAL CT_SOM5 SPI DUAL", "kvp": 150.0},
        {"series_description": "Head DE 5.0 F_0.4", "kvp": 80.0},
        {"series_description": "DE_Head M_0.5", "kvp": 80.0},
        {"series_description": "Dual Energy 5.0", "kvp": 80.0},
    ],
)
def test_a_mixed_image_is_not_judged_by_the_kv_of_one_tube(changes: dict[str, Any]) -> None:
    assert code(**changes) is None
    assert series_doubts(slices(**changes)) == ()


@pytest.mark.parametrize("description", ["DE_Head A_80kV", "Head DE 5.0 B_Sn140kV"])
def test_an_image_of_one_tube_is_judged_by_its_kv(description: str) -> None:
    assert code(series_description=description, image_type="CT_SOM5 SPI DUAL", kvp=80.0) == "kvp"


@pytest.mark.parametrize(
    "changes",
    [
        {"series_description": "MONO_70 keV"},
        {"series_description": "MonoE 70keV [HU]"},
        {"series_description": "Monoenergetic Plus"},
        {"series_description": "Mono+ 40"},
        {"series_description": "Head 65 keV"},
        {"image_type": "DERIVED PRIMARY AXIAL VMI"},
        {"series_description": "VNC [HU*]"},
        {"series_description": "VUE"},
        {"series_description": "Virtual Non-Contrast", "contrast": True},
        {"image_type": "DERIVED PRIMARY AXIAL MAT_REMOVED", "contrast": True},
    ],
)
def test_derived_values_are_suitable_with_a_doubt(changes: dict[str, Any]) -> None:
    headers = slices(3, **changes, kvp=80.0)
    assert series_refusal(headers) is None
    assert series_doubts(headers) == ("derived_hu",)
    assert series_doubts(headers + [GOOD] * 4) == ()


def test_a_monoenergetic_image_of_an_angiography_shows_the_agent() -> None:
    assert code(series_description="MonoE 70keV", contrast=True) == "contrast"


def test_every_doubt_is_a_reason_of_a_study() -> None:
    assert set(series_doubts(slices(series_description="VNC"))) <= set(STUDY_REASONS)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("BONE", True), ("BONEPLUS", True), ("H60s", True), ("Hr64h 3", True), ("J70h", True), ("FC30", True),
        ("FC81", True), ("STD+", False), ("STANDARD", False), ("SOFT", False), ("H31s", False), ("J40s", False),
        ("FC21", False), ("FC64", False), ("UB", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_bone_kernels_by_vendor(kernel: str | None, expected: bool) -> None:
    assert is_bone_kernel(kernel) is expected

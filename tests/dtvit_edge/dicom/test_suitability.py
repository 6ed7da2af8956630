from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.suitability import is_bone_kernel, is_head, series_refusal, series_warnings
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding

GOOD = SliceHeader(
    Path("x"), "x", Identity("1", "2", "3"), 1, 1, 512, 512, PixelEncoding(), kvp=120, kernel="H31S",
    body_part="HEAD", position_mm=(0, 0, 0), orientation=((1, 0, 0), (0, 1, 0)),
)  # fmt: skip


def code(**changes: object) -> str | None:
    refusal = series_refusal([GOOD, replace(GOOD, **changes)])  # type: ignore[arg-type]
    return refusal.code if refusal else None


def test_a_plain_head_series_is_suitable_without_warnings() -> None:
    assert code() is None
    assert series_warnings([GOOD]) == ()


def test_one_slice_is_enough_to_refuse() -> None:
    assert code(contrast=True) == "contrast"
    assert code(body_part="CHEST") == "not_head"
    assert code(orientation=((1, 0, 0), (0, 0, -1))) == "not_axial"
    assert code(kvp=80.0) == "kvp"
    assert code(kvp=141.0) == "kvp"


@pytest.mark.parametrize("kvp", [100.0, 140.0])
def test_the_ends_of_the_voltage_range_are_inside(kvp: float) -> None:
    assert code(kvp=kvp) is None


def test_missing_tags_warn_and_do_not_refuse() -> None:
    bare = replace(GOOD, kvp=None, kernel=None, body_part="", orientation=None, position_mm=None)
    assert series_refusal([bare]) is None
    assert series_warnings([bare]) == ("anatomy_unknown", "kvp_unknown", "kernel_unknown", "geometry_unknown")


@pytest.mark.parametrize(
    ("body_part", "descriptions", "expected"),
    [
        ("HEAD", "", True),
        ("HEAD", "CHEST ROUTINE", True),
        ("", "CT BRAIN W/O CONTRAST", True),
        ("", "HEAD AND NECK", True),
        ("CHEST", "CT HEAD", False),
        ("", "HELICAL CHEST", False),
        ("NECK", "", False),
        ("", "", None),
        ("", "E+1", None),
        ("", "ROUTINE HEADACHE CLINIC", None),
    ],
)
def test_anatomy(body_part: str, descriptions: str, expected: bool | None) -> None:
    assert is_head(replace(GOOD, body_part=body_part, descriptions=descriptions)) is expected


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

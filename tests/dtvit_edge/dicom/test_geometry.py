from __future__ import annotations

import math
from pathlib import Path

import pytest

from dtvit_edge.dicom.geometry import distance_mm, has_gap, has_geometry, is_axial, ordered, repeats_positions
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.slice import SliceHeader, Vector
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding
from tests.support.data import real

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def header(z: float | None, *, name: str = "", thickness: float | None = 5.0, **values: object) -> SliceHeader:
    position = None if z is None else (0.0, 0.0, z)
    defaults: dict[str, object] = {"orientation": AXIAL, "thickness_mm": thickness, "position_mm": position}
    return SliceHeader(
        Path("x"),
        name or str(z),
        Identity(),
        1,
        1,
        512,
        512,
        PixelEncoding(),
        **{**defaults, **values},  # type: ignore[arg-type]
    )


def line(*positions: float, thickness: float = 5.0) -> list[SliceHeader]:
    return [header(z, thickness=thickness) for z in positions]


def tilted(degrees: float, axis: str = "x") -> tuple[Vector, Vector]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ((1, 0, 0), (0, c, -s)) if axis == "x" else ((c, 0, -s), (0, 1, 0))


def test_order_is_by_position_not_by_name_or_number() -> None:
    headers = [header(z, name=n, instance_number=i) for i, (z, n) in enumerate([(10, "a"), (-5, "b"), (2.5, "c")])]
    assert [h.path for h in ordered(headers)] == ["b", "c", "a"]


def test_a_series_without_positions_falls_back_to_instance_numbers() -> None:
    headers = [header(None, name=n, instance_number=i) for n, i in (("a", 3), ("b", 1), ("c", 2))]
    assert [h.path for h in ordered(headers)] == ["b", "c", "a"]
    assert not has_geometry(headers)
    assert not has_gap(headers)


@pytest.mark.parametrize("flip", [1, -1])
def test_distance_runs_to_the_head_whichever_way_the_normal_points(flip: int) -> None:
    orientation = ((1.0, 0.0, 0.0), (0.0, float(flip), 0.0))
    low, high = header(0, orientation=orientation), header(9, orientation=orientation)
    assert distance_mm(high) - distance_mm(low) == pytest.approx(9)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (AXIAL, True),
        (tilted(30), True),
        (tilted(-25), True),
        (tilted(50), False),
        (((1, 0, 0), (0, 0, -1)), False),
        (((0, 1, 0), (0, 0, -1)), False),
        (None, None),
    ],
    ids=["axial", "tilt-30", "tilt-minus-25", "oblique-50", "coronal", "sagittal", "unknown"],
)
def test_axial(orientation: object, expected: bool | None) -> None:
    assert is_axial(header(0, orientation=orientation)) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (line(0, 5, 10, 15, 20), False),
        (line(0, 5, 15, 20), True),
        (line(0, 5, 20), True),
        (line(0, 10, 20, 30), False),  # a protocol that leaves spaces
        (line(0, 10, 20, 40, 50), True),
        (line(0, 2.5, 5, 7.5), False),  # overlapping
        (line(0, 4, 8, thickness=4) + line(9, 16, 23, thickness=7), False),  # two blocks, as in the real study
        (line(0, 4, 12, thickness=4) + line(16, 23, 30, thickness=7), True),
        (line(0, 5, 5, 10), False),
        (line(7), False),
    ],
    ids=[
        "even", "one-missing", "two-missing", "spaced", "spaced-one-missing", "overlap", "two-blocks",
        "two-blocks-one-missing", "twice-in-one-place", "single",
    ],
)  # fmt: skip
def test_gaps(headers: list[SliceHeader], expected: bool) -> None:
    assert has_gap(headers) is expected


def test_step_and_shoot_acquisition_numbers_are_no_repeats() -> None:
    assert not repeats_positions([header(5 * i, acquisition_number=i) for i in range(6)])
    twice = [header(5 * i, acquisition_number=a) for a in (1, 2) for i in range(6)]
    assert repeats_positions(twice)


def test_two_slices_of_one_acquisition_in_one_place_are_no_repeat() -> None:
    assert not repeats_positions([header(z, acquisition_number=1) for z in (0, 5, 5, 10)])
    assert not repeats_positions([header(z) for z in (0, 5, 5, 10)])
    assert repeats_positions([header(5, acquisition_number=None), header(5, acquisition_number=2)])


def test_the_real_study_is_in_order_without_gaps_and_any_inner_loss_is_found() -> None:
    files = sorted(real("studies", "ge-head").glob("*.dcm"))
    headers = ordered(read_headers(f, f.name)[0] for f in reversed(files))
    assert [h.path for h in headers] == [f.name for f in files]
    assert not has_gap(headers)
    missed = [i for i in range(1, 27) if not has_gap(headers[:i] + headers[i + 1 :])]
    # The 4 mm and the 7 mm block overlap by 3 mm: slices 14 and 15 lie 1.1 mm apart, and losing one leaves no gap.
    assert missed == [13, 14]

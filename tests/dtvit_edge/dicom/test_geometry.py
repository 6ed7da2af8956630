from __future__ import annotations

import math

import pytest

from dtvit_edge.dicom.geometry import (
    Position,
    centre_height_mm,
    gaps,
    has_geometry,
    heights_mm,
    is_axial,
    ordered,
    same_orientation,
)
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.slice import SliceHeader, Vector
from tests.support.data import real
from tests.support.headers import AXIAL, header, line


def has_gap(headers: list[SliceHeader]) -> bool:
    heights = zip(headers, heights_mm(headers), strict=True)
    return bool(gaps(Position(z, h.thickness_mm or 0.0, h.instance_number) for h, z in heights if z is not None))


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
    below, above = heights_mm([low, high])
    assert below is not None and above is not None and above - below == pytest.approx(9)


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
        (line(0, 5, 10, 15, 20, thickness=3) + line(60, 65, 70, 75, thickness=4), True),
        (line(0, 18, 36, 54, 72, thickness=4), True),
    ],
    ids=[
        "even", "one-missing", "two-missing", "spaced", "spaced-one-missing", "overlap", "two-blocks",
        "two-blocks-one-missing", "twice-in-one-place", "single", "where-the-thickness-changes",
        "more-space-than-any-protocol-leaves",
    ],
)  # fmt: skip
def test_gaps(headers: list[SliceHeader], expected: bool) -> None:
    assert has_gap(headers) is expected


def test_every_second_slice_missing_is_seen_by_the_numbers() -> None:
    spaced = [header(10 * i, instance_number=i) for i in range(6)]
    thinned = [header(10 * i, instance_number=2 * i) for i in range(6)]
    assert not has_gap(spaced)
    assert has_gap(thinned)


def test_one_wrong_thickness_explains_no_gap() -> None:
    headers = [header(z, thickness=50.0 if z == 10 else 5.0, instance_number=round(z / 5)) for z in (0, 5, 10, 20, 25)]
    assert has_gap(headers)
    assert not has_gap([header(5 * i, thickness=50.0) for i in range(6)])
    skipped = [header(4.6 * i, thickness=10.0, instance_number=i) for i in (0, 1, 2, 4, 5, 6)]
    assert has_gap(skipped)


def test_ten_thousand_slices_are_asked_in_linear_time() -> None:
    positions = [Position(0.6 * i, 0.6, i) for i in range(10_000)]
    assert not gaps(positions)
    assert gaps(positions[:5000] + positions[5004:]) == [(pytest.approx(2999.4), pytest.approx(3002.4))]


def test_a_slice_without_a_position_lies_between_its_numbers_neighbours() -> None:
    headers = [header(None if i == 2 else 5.0 * i, name=str(i), instance_number=i) for i in range(5)]
    assert heights_mm(headers) == [0, 5, 10, 15, 20]
    assert [h.path for h in ordered(headers[::-1])] == ["0", "1", "2", "3", "4"]
    assert not has_gap(headers)


def test_a_slice_without_a_position_hides_no_gap_beside_it() -> None:
    headers = [header(None if i == 2 else 5.0 * i, instance_number=i) for i in (0, 1, 2, 5, 6)]
    assert has_gap(headers)


def test_a_slice_that_nothing_places_is_not_guessed() -> None:
    at_the_end = [header(5.0 * i, instance_number=i) for i in range(4)] + [header(None, instance_number=4)]
    assert heights_mm(at_the_end)[-1] is None
    assert heights_mm([header(0.0), header(None), header(5.0)])[1] is None


def test_slice_location_stands_in_for_positions_if_all_have_one() -> None:
    headers = [header(None, slice_location_mm=5.0 * i) for i in (2, 0, 1)]
    assert heights_mm(headers) == [10, 0, 5]
    assert heights_mm([*headers, header(None)]) == [None] * 4


@pytest.mark.parametrize(("difference", "same"), [(2e-4, True), (9e-3, True), (2e-2, False)])
def test_orientations_are_the_same_within_a_tolerance(difference: float, same: bool) -> None:
    other = ((1.0, difference, 0.0), (-difference, 1.0, 0.0))
    assert same_orientation(header(0), header(0, orientation=other)) is same


def test_the_centre_of_a_tilted_image_lies_lower_than_its_corner() -> None:
    tilt = tilted(20)
    corner = header(0, orientation=tilt, pixel_spacing_mm=(0.5, 0.5))
    assert centre_height_mm(corner) == pytest.approx(-math.sin(math.radians(20)) * 511 / 4)
    assert centre_height_mm(header(3, pixel_spacing_mm=(0.5, 0.5))) == 3
    assert centre_height_mm(header(None)) is None


def test_the_real_study_is_in_order_without_gaps_and_any_inner_loss_is_found() -> None:
    files = sorted(real("studies", "ge-head").glob("*.dcm"))
    headers = ordered(read_headers(f, f.name)[0] for f in reversed(files))
    assert [h.path for h in headers] == [f.name for f in files]
    assert not has_gap(headers)
    missed = [i for i in range(1, 27) if not has_gap(headers[:i] + headers[i + 1 :])]
    # The 4 mm and the 7 mm block overlap by 3 mm: slices 14 and 15 lie 1.1 mm apart, losing the thinner leaves no gap.
    assert missed == [13]

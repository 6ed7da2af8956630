from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dtvit_edge.dicom.grouping import Stack, is_dynamic, split, stacks
from dtvit_edge.dicom.slice import Series, SliceHeader
from dtvit_edge.results import Identity
from tests.support.headers import header, line

TILTED = ((1.0, 0.0, 0.0), (0.0, 0.97, -0.25))


def series(uid: str, headers: Sequence[SliceHeader]) -> Series:
    return Series("2.25.1", uid, tuple(headers))


def made(*members: Series, thickness_mm: float = 5.0) -> list[Stack]:
    return stacks(members, thickness_mm)


def uids(stack: Stack) -> list[str]:
    return sorted(s.series_uid for s in stack.series)


def test_rounding_of_orientations_splits_no_series() -> None:
    headers = [header(5 * i, orientation=((1.0, 2e-4 * (i % 2), 0.0), (0.0, 1.0, 0.0))) for i in range(6)]
    assert [len(part) for part in split(headers)] == [6]


def test_planes_of_one_series_are_parts() -> None:
    headers = line(0, 5, 10) + [header(z, orientation=TILTED) for z in (15, 20)]
    assert sorted(len(part) for part in split(headers)) == [2, 3]


def test_kernels_split_a_series_only_where_they_show_the_same_places() -> None:
    soft = [header(5 * i, name=f"s{i}", kernel="H31S") for i in range(6)]
    bone = [header(5 * i, name=f"b{i}", kernel="H60S") for i in range(6)]
    assert sorted(len(part) for part in split([*soft, *bone])) == [6, 6]
    assert [len(part) for part in split([*soft[:4], *bone[4:]])] == [6]


def test_repeats_split_no_series() -> None:
    headers = [header(5 * i, name=str(i)) for i in range(6)]
    assert [len(part) for part in split([*headers, header(10, name="again")])] == [7]


@pytest.mark.parametrize(("times", "dynamic"), [(1, False), (3, False), (4, True)])
def test_a_series_that_shows_most_places_four_times_is_dynamic(times: int, dynamic: bool) -> None:
    headers = [header(5 * i, name=f"{i}-{t}") for i in range(4) for t in range(times)]
    assert is_dynamic(headers) is dynamic


def test_the_same_image_four_times_is_not_dynamic() -> None:
    uid = Identity("2.25.1", "2.25.2", "2.25.3")
    assert not is_dynamic([header(0, name=str(t), identity=uid) for t in range(4)])


def test_one_place_shown_often_makes_no_dynamic_series() -> None:
    assert not is_dynamic(line(0, 5, 10, 15) + [header(5, name=str(t)) for t in range(8)])


def test_two_slabs_in_two_series_are_one_stack_of_their_frame_of_reference() -> None:
    low = series("a", [header(4 * i, thickness=4, frame_of_reference_uid="f") for i in range(8)])
    high = series("b", [header(33 + 7 * i, thickness=7, frame_of_reference_uid="f") for i in range(8)])
    (stack,) = made(low, high)
    assert uids(stack) == ["a", "b"]
    assert [s.height_mm for s in stack.slices][:2] == [0, 4]
    assert stack.gaps == []


def test_a_slab_that_is_missing_between_two_is_a_gap() -> None:
    low = series("a", [header(5 * i, frame_of_reference_uid="f") for i in range(6)])
    high = series("b", [header(60 + 5 * i, frame_of_reference_uid="f") for i in range(6)])
    (stack,) = made(low, high)
    assert stack.gaps == [(25, 60)]


def test_a_series_for_each_slice_is_one_stack() -> None:
    (stack,) = made(*(series(str(i), [header(5 * i, frame_of_reference_uid="f")]) for i in range(8)))
    assert len(stack.slices) == 8
    assert stack.gaps == []


def test_a_tilted_base_below_an_upright_block_is_one_stack() -> None:
    spacing = (0.5, 0.5)
    base = [header(5 * i + 32, orientation=TILTED, pixel_spacing_mm=spacing) for i in range(5)]  # centres at 0 to 20
    upright = [header(25 + 5 * i, pixel_spacing_mm=spacing) for i in range(10)]
    (stack,) = made(series("a", base), series("a", upright))
    assert len(stack.slices) == 15
    assert stack.gaps == []


def test_another_reconstruction_and_a_repeat_are_stacks_of_the_same_scan() -> None:
    first = series("a", [header(5 * i, name=f"a{i}", frame_of_reference_uid="f") for i in range(10)])
    other = series("b", [header(5 * i, name=f"b{i}", frame_of_reference_uid="f") for i in range(10)])
    again = series("c", [header(5 * i, name=f"c{i}", frame_of_reference_uid="f") for i in (2, 7)])
    found = made(first, other, again)
    assert [uids(stack) for stack in found] == [["a"], ["b"], ["c"]]
    assert {stack.scan for stack in found} == {0}


def test_series_without_a_common_frame_of_reference_are_scans_of_their_own() -> None:
    found = made(series("a", line(0, 5, 10)), series("b", line(15, 20, 25)))
    assert [stack.scan for stack in found] == [0, 1]


def test_bone_and_soft_series_are_never_one_stack() -> None:
    soft = series("a", [header(5 * i, kernel="H31S", frame_of_reference_uid="f") for i in range(5)])
    bone = series("b", [header(25 + 5 * i, kernel="H60S", frame_of_reference_uid="f") for i in range(5)])
    assert [uids(stack) for stack in made(soft, bone)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("numbers", "missing"), [((1, 2, 3), False), ((1, 2, 4), True), ((1, 2, None), False), ((7, 8, 9), False)]
)
def test_numbers_tell_what_is_missing_where_positions_do_not(numbers: tuple[int | None, ...], missing: bool) -> None:
    (stack,) = made(series("a", [header(None, name=str(i), instance_number=n) for i, n in enumerate(numbers)]))
    assert not stack.is_placed
    assert stack.misses_numbers is missing


@pytest.mark.parametrize(("in_acquisition", "short"), [(None, False), (2, False), (3, False), (4, True)])
def test_an_acquisition_of_more_images_was_cut_short(in_acquisition: int | None, short: bool) -> None:
    (stack,) = made(series("a", [header(5 * i, images_in_acquisition=in_acquisition) for i in range(3)]))
    assert stack.is_cut_short is short


@pytest.mark.parametrize(
    ("parts", "misses"),
    [
        ([(1, 3), (2, 3), (3, 3)], False),
        ([(1, 3), (3, 3)], True),
        ([(1, 3), (2, 3)], True),
        ([(1, 0), (2, 0)], False),
        ([(2, 0)], True),
        ([(0, 65_535)], True),
    ],
    ids=["whole", "the middle", "the last", "of no known number", "the first", "absurd"],
)
def test_a_part_of_a_concatenation_that_is_not_there_is_missed(parts: list[tuple[int, int]], misses: bool) -> None:
    headers = [replace(header(5.0 * i), concatenation=("2.25.9", *part)) for i, part in enumerate(parts)]
    (stack,) = made(series("a", headers))
    assert stack.misses_parts == misses
    assert not made(series("a", line(3)))[0].misses_parts


def test_ten_thousand_series_of_one_slice_are_one_stack() -> None:
    members = [series(str(i), [header(0.6 * i, thickness=0.6, frame_of_reference_uid="f")]) for i in range(10_000)]
    assert [len(stack.slices) for stack in made(*members, thickness_mm=1.0)] == [10_000]

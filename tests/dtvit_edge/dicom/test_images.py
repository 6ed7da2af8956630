from __future__ import annotations

from collections.abc import Sequence

from dtvit_edge.dicom.grouping import stacks
from dtvit_edge.dicom.images import images
from dtvit_edge.dicom.slice import Series, SliceHeader, SliceImage
from tests.support.headers import header, line


def shown(headers: Sequence[SliceHeader], thickness_mm: float = 5.0) -> list[SliceImage]:
    (stack,) = stacks([Series("2.25.1", "2.25.2", tuple(headers))], thickness_mm)
    return images(stack, thickness_mm)


def sizes(headers: Sequence[SliceHeader]) -> list[int]:
    return [len(image.headers) for image in shown(headers)]


def test_thick_slices_are_images_and_places_of_their_own() -> None:
    made = shown(line(0, 5, 10, 15))
    assert [(len(image.headers), image.place) for image in made] == [(1, 1), (1, 2), (1, 3), (1, 4)]


def test_thin_slices_are_averaged_to_the_specs_thickness() -> None:
    assert sizes([header(0.625 * i, thickness=0.625) for i in range(32)]) == [8, 8, 8, 8]
    assert sizes([header(1.0 * i, thickness=1.0) for i in range(12)]) == [5, 5, 2]
    assert sizes([header(0.5 * i, thickness=1.0) for i in range(20)]) == [10, 10]  # overlapping


def test_half_of_the_specs_thickness_is_not_thin() -> None:
    assert sizes([header(2.5 * i, thickness=2.5) for i in range(4)]) == [1, 1, 1, 1]


def test_thin_slices_far_from_each_other_are_not_averaged() -> None:
    assert sizes([header(10.0 * i, thickness=1.0) for i in range(4)]) == [1, 1, 1, 1]


def test_a_wrong_thickness_averages_no_thick_slices() -> None:
    assert sizes([header(5.0 * i, thickness=0.6) for i in range(4)]) == [1, 1, 1, 1]


def test_a_gap_ends_an_image() -> None:
    assert sizes([header(z, thickness=1.0) for z in (0.0, 1.0, 9.0, 10.0)]) == [2, 2]


def test_images_in_one_place_share_it_and_repeats_are_not_averaged_together() -> None:
    again = [header(z, name=f"again-{z}") for z in (5, 10)]
    assert [image.place for image in shown(line(0, 5, 10, 15) + again)] == [1, 2, 2, 3, 3, 4]
    thin = [header(1.0 * i, name=f"{i}-{t}", thickness=1.0) for i in range(10) for t in range(2)]
    made = shown(thin)
    assert [(len(image.headers), image.place) for image in made] == [(5, 1), (5, 1), (5, 2), (5, 2)]


def test_overlapping_thick_slices_share_a_place_up_to_half_the_thickness() -> None:
    assert [image.place for image in shown([header(1.0 * i, thickness=5.0) for i in range(7)])] == [1, 1, 1, 2, 2, 2, 3]


def test_slices_that_do_not_say_where_they_lie_are_shown_one_by_one() -> None:
    made = shown([header(None, name=str(i), thickness=0.6, instance_number=i) for i in range(3)])
    assert [(image.headers[0].path, image.place) for image in made] == [("0", 1), ("1", 2), ("2", 3)]

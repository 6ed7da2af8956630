from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.dicom.grouping import stacks
from dtvit_edge.dicom.slice import Series, SliceHeader
from dtvit_edge.reasons import REASONS, Status
from dtvit_edge.results import Identity, PixelMeasures, SliceScore
from dtvit_edge.scoring.judgement import JudgedStack, Rows, judge, key
from dtvit_edge.spec import PixelEncoding
from tests.support.headers import header

SPACING = (0.45, 0.45)  # 230 mm of 512 pixels
HEAD = PixelMeasures(air_share=0.5, high_share=0.0, constant=False, digest="", bone_share=0.05)
NO_AIR = replace(HEAD, air_share=0.0)
WRAPPED = replace(HEAD, air_share=0.0, high_share=0.4)
THIN = replace(HEAD, air_hu=-500.0)
BLANK = PixelMeasures(air_share=1.0, high_share=0.0, constant=True)


def row(h: SliceHeader, code: str = "", measures: PixelMeasures | None = HEAD, head: int = 1000) -> SliceScore:
    uids = h.identity
    if code:
        status = REASONS[code].status
        return SliceScore(uids.study_uid, uids.series_uid, uids.sop_uid, h.frame, h.path, status, code, place=1,
                          measures=measures, head_pixels=head)  # fmt: skip
    return SliceScore(uids.study_uid, uids.series_uid, uids.sop_uid, h.frame, h.path, Status.SCORED, "", 0.2,
                      (0.2, 0.5, 0.3), False, 1, measures, head)  # fmt: skip


def slices(count: int, **values: Any) -> list[SliceHeader]:
    return [header(5 * i, name=str(i), **{"pixel_spacing_mm": SPACING, **values}) for i in range(count)]


def told_apart(h: SliceHeader, r: SliceScore) -> SliceScore:
    """The row with a digest of its own, where the test gives it none."""
    if r.measures is None or r.measures.digest:
        return r
    return replace(r, measures=replace(r.measures, digest=h.path))


def judged(headers: Sequence[SliceHeader], rows: Sequence[SliceScore]) -> tuple[JudgedStack, list[str]]:
    answers: Rows = {key(h): told_apart(h, r) for h, r in zip(headers, rows, strict=True)}
    (one,), judged_rows = judge(stacks([Series("2.25.1", "2.25.2", tuple(headers))], 5.0), answers)
    return one, [judged_rows[key(h)].reason or str(judged_rows[key(h)].status) for h in headers]


def test_good_slices_stay_as_they_are() -> None:
    headers = slices(4)
    one, reasons = judged(headers, [row(h) for h in headers])
    assert (one.is_plausible, one.small_fov) == (True, False)
    assert reasons == ["scored"] * 4


@pytest.mark.parametrize("measures", [WRAPPED, NO_AIR, THIN], ids=["wrapped", "no-air", "thin-air"])
def test_one_slice_that_cannot_be_hu_is_refused_and_loses_its_probability(measures: PixelMeasures) -> None:
    headers = slices(5)
    answers = [row(h, measures=measures if i == 2 else HEAD) for i, h in enumerate(headers)]
    one, reasons = judged(headers, answers)
    assert one.is_plausible
    assert reasons == ["scored", "scored", "implausible_hu", "scored", "scored"]
    refused = one.slices[2][2]
    assert (refused.status, refused.ich_probability, refused.ich) == (Status.REFUSED, None, None)


@pytest.mark.parametrize("measures", [WRAPPED, NO_AIR, THIN], ids=["wrapped", "no-air", "thin-air"])
def test_a_series_that_mostly_cannot_be_hu_is_refused_whole(measures: PixelMeasures) -> None:
    headers = slices(5)
    one, reasons = judged(headers, [row(h, measures=measures if i < 3 else HEAD) for i, h in enumerate(headers)])
    assert not one.is_plausible
    assert reasons == ["implausible_hu"] * 5


def test_no_air_in_an_unknown_field_of_view_is_implausible() -> None:
    headers = slices(3, pixel_spacing_mm=None)
    one, _ = judged(headers, [row(h, measures=NO_AIR) for h in headers])
    assert not one.is_plausible


def test_no_air_in_a_small_field_of_view_is_a_crop() -> None:
    headers = slices(3, pixel_spacing_mm=(0.3, 0.3))
    one, reasons = judged(headers, [row(h, measures=NO_AIR) for h in headers])
    assert (one.is_plausible, one.small_fov) == (True, True)
    assert reasons == ["scored"] * 3
    whole, _ = judged(headers, [row(h) for h in headers])
    assert not whole.small_fov


USUAL = PixelEncoding(12, 11, signed=False, intercept=-1024.0)


@pytest.mark.parametrize(
    ("slope", "intercept", "air"),
    [(0.5, -512.0, -500.0), (2.0, -2048.0, -2000.0), (1.0, -1000.0, -976.0), (1.0, -1100.0, -1076.0)],
)
def test_a_rescale_that_is_not_that_of_the_other_slices_nor_of_its_own_pixels_is_refused(
    slope: float, intercept: float, air: float
) -> None:
    """Pixels as the others', air at 24 of the stored values; the header says otherwise."""
    other = replace(USUAL, slope=slope, intercept=intercept)
    headers = [replace(h, encoding=other if i in (2, 3) else USUAL) for i, h in enumerate(slices(6))]
    levels = [air if i in (2, 3) else -1000.0 - i for i in range(6)]
    answers = [row(h, measures=replace(HEAD, air_hu=hu)) for h, hu in zip(headers, levels, strict=True)]
    refused = ["scored", "scored", "implausible_hu", "implausible_hu", "scored", "scored"]
    assert judged(headers, answers)[1] == refused


@pytest.mark.parametrize("air", [-1000.0, -1009.0, -3024.0, None], ids=["same", "noise", "circle", "none"])
def test_a_rescale_of_its_own_that_fits_the_pixels_is_scored(air: float | None) -> None:
    """As where a converter took a scale for each slice; the median of air may also be that of what was not scanned."""
    other = replace(USUAL, slope=0.5, intercept=-1500.0)
    headers = [replace(h, encoding=other if i in (2, 3) else USUAL) for i, h in enumerate(slices(6))]
    levels = [air if i in (2, 3) else -1000.0 for i in range(6)]
    answers = [row(h, measures=replace(HEAD, air_hu=hu)) for h, hu in zip(headers, levels, strict=True)]
    assert judged(headers, answers)[1] == ["scored"] * 6


@pytest.mark.parametrize(("spacing", "small"), [((0.2, 0.45), True), ((0.3, 0.45), False), ((0.36, 0.9), False)])
def test_a_field_of_view_that_no_head_has_the_shape_of_is_a_crop(spacing: tuple[float, float], small: bool) -> None:
    headers = slices(3, pixel_spacing_mm=spacing)
    one, _ = judged(headers, [row(h) for h in headers])
    assert one.small_fov is small


@pytest.mark.parametrize(("stripped", "plausible"), [(3, True), (4, False)])
def test_a_series_without_its_skull_is_no_head(stripped: int, plausible: bool) -> None:
    headers = slices(8)
    bare = replace(HEAD, bone_share=0.004)
    answers = [row(h, measures=bare if i < stripped else HEAD, head=1000 * (i < 7)) for i, h in enumerate(headers)]
    answers[7] = row(headers[7], "no_head", bare, head=0)  # above the vertex nothing is bone
    one, _ = judged(headers, answers)
    assert one.is_plausible is plausible


@pytest.mark.parametrize(("cut", "small"), [(3, False), (4, True)])
def test_a_head_that_the_border_cuts_in_most_slices_is_a_crop(cut: int, small: bool) -> None:
    headers = slices(6)
    answers = [row(h, measures=replace(HEAD, edge_share=0.4 if i < cut else 0.3)) for i, h in enumerate(headers)]
    one, _ = judged(headers, answers)
    assert one.small_fov is small


@pytest.mark.parametrize(("without", "plausible"), [(3, True), (4, False)])
def test_no_brain_on_more_than_a_quarter_means_other_values(without: int, plausible: bool) -> None:
    headers = slices(12)
    one, _ = judged(headers, [row(h, "no_brain" if i < without else "") for i, h in enumerate(headers)])
    assert one.is_plausible is plausible


def test_the_same_pixels_at_several_places_are_errors_at_all_of_them() -> None:
    headers = slices(6)
    stale = replace(HEAD, digest="stale")
    answers = [row(h, measures=stale if i in (1, 2, 4) else HEAD) for i, h in enumerate(headers)]
    assert judged(headers, answers)[1] == ["scored", "repeated", "repeated", "scored", "repeated", "scored"]
    without_head = [replace(r, head_pixels=0) for r in answers]
    assert judged(headers, without_head)[1] == ["scored"] * 6


def test_the_same_pixels_in_one_place_are_two_copies_with_uids_of_their_own() -> None:
    headers = [*slices(3), header(5, name="again", pixel_spacing_mm=SPACING)]
    same = replace(HEAD, digest="same")
    answers = [row(h, measures=same if i in (1, 3) else HEAD) for i, h in enumerate(headers)]
    assert judged(headers, answers)[1] == ["scored"] * 4


@pytest.mark.parametrize("code", ["", "no_head", "no_brain"])
def test_a_constant_image_between_heads_is_an_error_whatever_became_of_it(code: str) -> None:
    headers = slices(5)
    answers = [row(h, code, BLANK, 0) if i == 2 else row(h) for i, h in enumerate(headers)]
    assert judged(headers, answers)[1] == ["scored", "scored", "constant", "scored", "scored"]


@pytest.mark.parametrize(("last_head", "expected"), [(500, "blank"), (501, "constant")])
def test_a_constant_image_at_an_end_is_blank_where_the_head_has_ended(last_head: int, expected: str) -> None:
    headers = slices(5)
    answers = [row(h, head=1000 if i < 2 else last_head) for i, h in enumerate(headers[:3])]
    answers += [row(h, "no_head", BLANK, 0) for h in headers[3:]]
    assert judged(headers, answers)[1][3:] == [expected, expected]


def test_a_series_of_constant_images_alone_is_all_errors() -> None:
    headers = slices(3)
    assert judged(headers, [row(h, "no_head", BLANK, 0) for h in headers])[1] == ["constant"] * 3


def test_of_twins_the_readable_the_one_with_content_the_lossless_and_the_first_count() -> None:
    uids = Identity("2.25.1", "2.25.2", "2.25.3")

    def twin(name: str, **values: Any) -> SliceHeader:
        return header(0, name=name, identity=uids, twin=True, pixel_spacing_mm=SPACING, **values)

    def pixels(digest: str) -> PixelMeasures:
        return replace(HEAD, digest=digest)

    cut, lossy, whole, again, other = twin("a"), twin("b", lossy=True), twin("c"), twin("d"), twin("e")
    zeroed = twin("0")
    headers = [cut, lossy, whole, again, other, *slices(4)[1:], zeroed]
    rows = [
        row(cut, "truncated", None),
        row(lossy, measures=pixels("l")),
        row(whole, measures=pixels("w")),
        row(again, measures=pixels("w")),
        row(other, measures=pixels("o")),
        *(row(h) for h in headers[5:8]),
        row(zeroed, "no_head", BLANK, 0),
    ]
    one, reasons = judged(headers, rows)
    assert reasons[-1] == "duplicate"
    assert reasons[:5] == ["duplicate", "duplicate", "scored", "duplicate", "scored"]
    assert len(one.slices) == 5  # copies are no slices of the stack


def test_the_same_pixels_with_another_rescale_are_another_image() -> None:
    uids = Identity("2.25.1", "2.25.2", "2.25.3")
    good = header(0, name="b", identity=uids, twin=True, pixel_spacing_mm=SPACING)
    lower = replace(good, file=Path("a"), path="a", encoding=replace(good.encoding, intercept=-40.0))
    headers = [lower, good, *slices(4)[1:]]
    rows = [row(h, measures=replace(HEAD, digest="same" if h.twin else "")) for h in headers]
    assert judged(headers, rows)[1] == ["scored"] * 5


def test_twins_that_all_cannot_be_read_stay_errors() -> None:
    uids = Identity("2.25.1", "2.25.2", "2.25.3")
    twins = [header(0, name=name, identity=uids, twin=True) for name in "ab"]
    assert judged(twins, [row(h, "truncated", None) for h in twins])[1] == ["truncated", "truncated"]

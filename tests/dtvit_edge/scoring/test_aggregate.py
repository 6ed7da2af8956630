from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dtvit_edge.dicom.grouping import stacks
from dtvit_edge.dicom.images import images
from dtvit_edge.dicom.slice import Series, SliceHeader
from dtvit_edge.reasons import REASONS, Status
from dtvit_edge.results import PixelMeasures, SliceScore, StackScore, StudyScore
from dtvit_edge.scoring.aggregate import coverage, stack_score, study_score
from dtvit_edge.scoring.judgement import JudgedStack, judge, key
from tests.support.headers import header

HEAD = PixelMeasures(air_share=0.5, high_share=0.0, constant=False, bone_share=0.05)
SPACING = (0.45, 0.45)


def other(code: str, series_uid: str = "2.25.9") -> SliceScore:
    return SliceScore("2.25.1", series_uid, "2.25.8", 1, "x", REASONS[code].status, code)


class Study:
    """A scan of 18 slices from base to vertex, whose answers and headers a test changes."""

    def __init__(self, probability: float = 0.1, count: int = 18, **values: Any) -> None:
        names = [f"{i:02d}" for i in range(count)]
        self.headers = [
            header(5 * i, name=n, pixel_spacing_mm=SPACING, instance_number=i, **values) for i, n in enumerate(names)
        ]
        self.probabilities = [probability] * count
        self.codes = [""] * count
        self.heads = [1000] * (count - 2) + [700, 400]
        self.locations: list[tuple[float, float, float] | None] = [(0.2, 0.5, 0.3)] * count
        self.doubts: tuple[str, ...] = ()
        self.extra: list[SliceScore] = []

    def without(self, *indices: int) -> Study:
        for values in (self.headers, self.probabilities, self.codes, self.heads, self.locations):
            values[:] = [v for i, v in enumerate(values) if i not in indices]  # type: ignore[index]
        return self

    def stack(self) -> JudgedStack:
        (made,) = stacks([Series("2.25.1", "2.25.2", tuple(self.headers), doubts=self.doubts)], 5.0)
        place = {key(h): image.place for image in images(made, 5.0) for h in image.headers}
        answers = {key(h): self._row(h, i, place[key(h)]) for i, h in enumerate(self.headers)}
        (judged,), _ = judge([made], answers)
        return judged

    def _row(self, h: SliceHeader, i: int, place: int) -> SliceScore:
        row = SliceScore("2.25.1", "2.25.2", h.identity.sop_uid, 1, h.path, Status.SCORED, "", self.probabilities[i],
                         self.locations[i], None, place, replace(HEAD, digest=h.path), self.heads[i])  # fmt: skip
        code = self.codes[i]
        return replace(row, status=REASONS[code].status, reason=code, ich_probability=None) if code else row

    def score(self) -> StackScore:
        return stack_score(self.stack(), top_places=3)

    def result(self, *others: Study, **more: Any) -> StudyScore:
        judged = [study.stack() for study in (self, *others)]
        judged = [replace(j, stack=replace(j.stack, scan=i)) for i, j in enumerate(judged)]
        rows = [row for j in judged for _, _, row in j.slices] + self.extra
        pairs = [(j, stack_score(j, top_places=3) if j.is_plausible else None) for j in judged]
        return study_score("2.25.1", pairs, rows, threshold=0.5, **more)


def summary(result: StudyScore) -> tuple[str, bool | None, str]:
    return str(result.status), result.flagged, result.reason


def test_a_stack_is_the_mean_of_its_three_highest_places() -> None:
    study = Study()
    study.probabilities[3:8] = [0.1, 0.9, 0.3, 0.6, 0.2]
    score = study.score()
    assert score.ich_probability == pytest.approx((0.9 + 0.6 + 0.3) / 3)
    assert score.top is not None
    assert score.top.path == "04"
    assert (score.slices, score.scored, score.places) == (18, 18, 18)
    assert stack_score(study.stack(), top_places=1).ich_probability == 0.9


def test_one_place_counts_once_however_often_it_was_scanned() -> None:
    study = Study()
    again = [header(20, name=f"again-{i}", pixel_spacing_mm=SPACING, instance_number=30 + i) for i in range(2)]
    study.headers += again
    study.probabilities += [0.95, 0.9]
    study.codes += ["", ""]
    study.heads += [1000, 1000]
    study.locations += [None, None]
    score = study.score()
    assert score.ich_probability == pytest.approx((0.95 + 0.1 + 0.1) / 3)
    assert summary(study.result()) == ("scored", False, "")


def test_location_comes_from_the_same_slices() -> None:
    study = Study()
    study.probabilities[4:7] = [0.9, 0.8, 0.7]
    study.locations[4:7] = [(0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.6, 0.2, 0.2)]
    study.locations[8] = (0.0, 0.0, 1.0)
    assert study.result().location == "deep"


def test_slices_without_location_give_a_positive_study_without_one() -> None:
    study = Study(0.9)
    study.locations = [None] * 18
    assert study.score().location_probabilities is None
    assert (study.result().flagged, study.result().location) == (True, "")


def test_equal_probabilities_are_ranked_by_path() -> None:
    top = Study(0.5).score().top
    assert top is not None
    assert top.path == "00"


@pytest.mark.parametrize(("p", "flagged"), [(0.5, True), (0.4999, False)])
def test_the_threshold_itself_is_positive(p: float, flagged: bool) -> None:
    assert Study(p).result().flagged is flagged


def test_the_highest_stack_wins() -> None:
    result = Study(0.2).result(Study(0.8))
    assert (result.ich_probability, result.flagged) == (pytest.approx(0.8), True)


def test_the_span_and_the_covered_share_are_said() -> None:
    assert (Study().result().span_mm, Study().result().covered_share) == (85, 1.0)
    gap = Study().without(8, 9).result()
    assert (gap.span_mm, gap.covered_share) == (85, pytest.approx(1 - 15 / 85))


def test_a_small_stack_without_a_fault_does_not_answer_for_its_scan() -> None:
    whole = Study().without(8, 9)
    again = Study().without(*range(3), *range(6, 18))
    derived = Study()
    derived.doubts = ("derived_hu",)
    for broken, reason in ((whole, "gap"), (derived, "derived_hu")):
        judged = [study.stack() for study in (broken, again)]
        pairs = [(j, stack_score(j, top_places=3)) for j in judged]
        rows = [row for j in judged for _, _, row in j.slices]
        assert summary(study_score("2.25.1", pairs, rows, threshold=0.5)) == ("partial", None, reason)


def test_scans_without_a_common_frame_of_reference_do_not_cover_a_head_together() -> None:
    low, high = Study().without(*range(9, 18)), Study().without(*range(9))
    assert summary(low.result(high)) == ("partial", None, "coverage")


def test_a_few_slices_of_another_scan_beside_a_whole_head_say_nothing_against_it() -> None:
    assert summary(Study().result(Study().without(*range(2, 18)))) == ("scored", False, "")


def test_air_above_a_head_that_has_not_ended_is_no_vertex() -> None:
    ends = changed(codes=dict.fromkeys(range(14, 18), "no_head"), heads=dict.fromkeys(range(14, 18), 0))
    assert summary(ends.result()) == ("partial", None, "coverage")
    values = changed(codes=dict.fromkeys(range(15, 18), "no_brain"))
    assert summary(values.result()) == ("partial", None, "not_contiguous")


def changed(**attributes: Any) -> Study:
    study = Study()
    for name, value in attributes.items():
        if isinstance(value, dict):
            for i, v in value.items():
                getattr(study, name)[i] = v
        else:
            setattr(study, name, value)
    return study


def unplaced(**values: Any) -> Study:
    study = Study(position_mm=None)
    study.headers = [replace(h, **{k: v(i) for k, v in values.items()}) for i, h in enumerate(study.headers)]
    return study


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (Study(), ""),
        (Study().without(9), "gap"),
        (changed(codes={9: "decode_failed"}), "slice_error"),
        (changed(codes={9: "model_fault"}), "slice_error"),
        (changed(codes={9: "codec_missing"}), "slice_refused"),
        (changed(codes={9: "no_brain"}), "not_contiguous"),
        (changed(codes={9: "no_head"}), "not_contiguous"),
        (changed(codes={0: "no_brain", 17: "no_head"}), ""),
        (changed(extra=[other("truncated")]), "slice_error"),
        (changed(extra=[other("matrix_size")]), "slice_refused"),
        (changed(extra=[other("not_ct", "2.25.2")]), "slice_refused"),
        (changed(extra=[other(code) for code in ("contrast", "bone_kernel", "not_ct", "dynamic", "color")]), ""),
        (changed(extra=[other("scout"), other("secondary_capture"), other("duplicate")]), ""),
        (changed(extra=[other("contrast"), other("truncated"), other("matrix_size")]), ""),
        (Study(count=17), ""),
        (Study(count=16), "coverage"),
        (Study().without(*range(6)), "coverage"),
        (changed(heads={16: 900, 17: 800}), "coverage"),
        (Study().without(*range(2, 18)), "coverage;few_slices"),
        (changed(doubts=("derived_hu",)), "derived_hu"),
        (changed(doubts=("bone_kernel_only",)), "bone_kernel_only"),
        (unplaced(), "geometry_unknown"),
        (unplaced(instance_number=lambda i: None), "geometry_unknown"),
        (unplaced(instance_number=lambda i: 2 * i), "gap;geometry_unknown"),
        (unplaced(images_in_acquisition=lambda i: 20), "gap;geometry_unknown"),
        (unplaced(slice_location_mm=lambda i: 5.0 * i), ""),
        (unplaced(slice_location_mm=lambda i: 5.0 * i).without(9), "gap"),
    ],
    ids=[
        "complete", "one-missing", "one-fails", "model-fault", "codec-missing", "no-brain-between", "no-head-between",
        "nothing-seen-at-the-ends", "a-file-that-fails", "a-file-refused", "another-modality-in-the-series",
        "whole-series-set-aside", "not-slices", "broken-in-a-series-set-aside", "80-mm", "75-mm", "base-missing",
        "vertex-missing", "two-alone", "derived", "bone-only", "no-positions", "no-positions-no-numbers",
        "numbers-left-out", "fewer-than-acquired", "locations", "locations-one-missing",
    ],
)  # fmt: skip
def test_a_zero_is_earned_and_a_positive_counts(study: Study, reason: str) -> None:
    assert summary(study.result()) == (("partial", None, reason) if reason else ("scored", False, ""))
    study.probabilities = [0.9] * len(study.probabilities)
    assert summary(study.result()) == (("partial", True, reason) if reason else ("scored", True, ""))


def test_several_patients_or_an_unread_file_beside_leave_no_zero() -> None:
    assert summary(Study().result(patients=2)) == ("partial", None, "two_patients")
    assert summary(Study().result(unread=True)) == ("partial", None, "unread")
    assert summary(Study(0.9).result(patients=2, unread=True)) == ("partial", True, "unread;two_patients")


def test_each_scan_needs_a_stack_without_a_reason_against_it() -> None:
    assert summary(Study().result(Study().without(9))) == ("partial", None, "gap")
    derived = Study()
    derived.doubts = ("derived_hu",)
    same_scan = [study.stack() for study in (Study(), derived, Study().without(9))]
    pairs = [(j, stack_score(j, top_places=3)) for j in same_scan]
    rows = [row for _, _, row in same_scan[0].slices]
    assert summary(study_score("2.25.1", pairs, rows, threshold=0.5)) == ("scored", False, "")


@pytest.mark.parametrize(
    ("codes", "extra", "reason"),
    [
        (["no_brain"] * 18, [], "nothing_scored"),
        (["decode_failed"] * 18, [], "nothing_scored;slice_error"),
    ],
    ids=["no-brain-at-all", "all-fail"],
)
def test_where_nothing_is_scored_there_is_no_answer(codes: list[str], extra: list[SliceScore], reason: str) -> None:
    result = changed(codes=codes, extra=extra).result()
    assert (str(result.status), result.flagged, result.ich_probability, result.location) == (
        "not_scored",
        None,
        None,
        "",
    )
    assert reason.split(";")[0] in result.reason.split(";")


@pytest.mark.parametrize(
    ("extra", "reason"),
    [([other("contrast")], "no_suitable_series"), ([other("bad_header")], "no_suitable_series;slice_error")],
)
def test_without_a_suitable_series_there_is_no_answer(extra: list[SliceScore], reason: str) -> None:
    assert summary(study_score("2.25.1", [], extra, threshold=0.5)) == ("not_scored", None, reason)
    assert coverage([]).span_mm is None

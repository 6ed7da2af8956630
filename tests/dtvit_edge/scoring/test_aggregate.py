from __future__ import annotations

from dataclasses import replace

import pytest

from dtvit_edge.reasons import REASONS, Status
from dtvit_edge.results import SeriesScore, SliceScore, StudyScore
from dtvit_edge.scoring.aggregate import series_score, study_score


def scored(p: float, name: str = "a", location: tuple[float, float, float] = (0.2, 0.5, 0.3)) -> SliceScore:
    return SliceScore("S", "s", name, 1, name, Status.SCORED, "", p, location, p >= 0.5)


def other(code: str, name: str = "x") -> SliceScore:
    return SliceScore("S", "s", name, 1, name, REASONS[code].status, code)


def study(rows: list[SliceScore], *, gap: bool = False, extra: list[SliceScore] | None = None) -> StudyScore:
    series = [series_score(rows, gap=gap)] if rows else []
    return study_score("S", series, rows + (extra or []), threshold=0.5)


def test_a_series_is_the_mean_of_its_three_highest() -> None:
    series = series_score([scored(p, str(p)) for p in (0.1, 0.9, 0.3, 0.6, 0.2)], gap=False)
    assert series.ich_probability == pytest.approx((0.9 + 0.6 + 0.3) / 3)
    assert series.top is not None
    assert series.top.sop_uid == "0.9"
    assert (series.slices, series.scored) == (5, 5)


def test_location_comes_from_the_same_slices() -> None:
    rows = [
        scored(0.9, "a", (0.8, 0.1, 0.1)),
        scored(0.8, "b", (0.1, 0.8, 0.1)),
        scored(0.7, "c", (0.6, 0.2, 0.2)),
    ]
    rows.append(scored(0.1, "d", (0.0, 0.0, 1.0)))
    assert study(rows).location == "deep"


def test_slices_without_location_give_a_positive_study_without_one() -> None:
    rows = [replace(scored(0.9, name), location_probabilities=None) for name in "abc"]
    assert series_score(rows, gap=False).location_probabilities is None
    result = study(rows)
    assert (result.flagged, result.ich_probability, result.location) == (True, pytest.approx(0.9), "")


def test_fewer_than_three_are_said() -> None:
    result = study([scored(0.9), scored(0.7, "b")])
    assert result.ich_probability == pytest.approx(0.8)
    assert result.reason == "few_slices"
    assert result.status is Status.SCORED


def test_the_highest_suitable_series_wins() -> None:
    low = series_score([scored(0.2)], gap=False)
    high = series_score([scored(0.8, "h")], gap=False)
    result = study_score("S", [low, high], [scored(0.2), scored(0.8, "h")], threshold=0.5)
    assert (result.ich_probability, result.top_sop_uid, result.flagged) == (0.8, "h", True)


@pytest.mark.parametrize(("p", "flagged"), [(0.5, True), (0.4999, False)])
def test_the_threshold_itself_is_positive(p: float, flagged: bool) -> None:
    assert study([scored(p, str(i)) for i in range(3)]).flagged is flagged


POSITIVE = [scored(0.9, str(i)) for i in range(3)]
NEGATIVE = [scored(0.1, str(i)) for i in range(3)]


@pytest.mark.parametrize(
    ("rows", "gap", "extra", "status", "flagged", "reason"),
    [
        (NEGATIVE, False, [], Status.SCORED, False, ""),
        (POSITIVE, False, [], Status.SCORED, True, ""),
        (NEGATIVE, True, [], Status.PARTIAL, None, "gap"),
        (POSITIVE, True, [], Status.PARTIAL, True, "gap"),
        ([*NEGATIVE, other("decode_failed")], False, [], Status.PARTIAL, None, "slice_error"),
        ([*NEGATIVE, other("codec_missing")], False, [], Status.PARTIAL, None, "slice_refused"),
        (NEGATIVE, False, [other("truncated")], Status.PARTIAL, None, "slice_error"),
        (NEGATIVE, False, [other("matrix_size")], Status.PARTIAL, None, "slice_refused"),
        ([*NEGATIVE, other("no_brain")], False, [], Status.SCORED, False, ""),
        (NEGATIVE, False, [other("contrast"), other("bone_kernel"), other("not_ct")], Status.SCORED, False, ""),
        (NEGATIVE, False, [other("scout"), other("secondary_capture"), other("duplicate")], Status.SCORED, False, ""),
        ([other("no_brain"), other("no_head")], False, [], Status.NOT_SCORED, None, "nothing_scored"),
        ([other("decode_failed")], False, [], Status.NOT_SCORED, None, "nothing_scored;slice_error"),
        ([], False, [other("contrast")], Status.NOT_SCORED, None, "no_suitable_series"),
        ([], False, [other("bad_header")], Status.NOT_SCORED, None, "no_suitable_series;slice_error"),
    ],
    ids=[
        "negative", "positive", "gap", "gap-but-positive", "a-slice-that-fails", "a-codec-missing", "a-file-that-fails",
        "a-file-refused", "no-brain", "whole-series-set-aside", "not-slices", "no-brain-at-all", "all-fail",
        "contrast-only", "unreadable-only",
    ],
)  # fmt: skip
def test_an_absence_of_slices_is_never_a_negative(
    rows: list[SliceScore],
    gap: bool,
    extra: list[SliceScore],
    status: Status,
    flagged: bool | None,
    reason: str,
) -> None:
    result = study(list(rows), gap=gap, extra=extra)
    assert (result.status, result.flagged, result.reason) == (status, flagged, reason)
    if status is Status.NOT_SCORED:
        assert result.ich_probability is None
    if flagged is not True:
        assert result.location == ""


def test_equal_probabilities_are_ranked_by_path() -> None:
    series: SeriesScore = series_score([scored(0.5, n) for n in "dbca"], gap=False)
    assert series.top is not None
    assert series.top.path == "a"

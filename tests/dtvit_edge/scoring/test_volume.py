"""Arrays in Hounsfield units: scored as files are, with their geometry said, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.averaging import AVERAGED
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.api import StudyResult
from dtvit_edge.scoring.volume import Volume, encoding_of, stored_of
from tests.support.open_models import opened, volume_of

AIR = np.full((3, 64, 64), -1000.0)
SPACING = (5.0, 0.5, 0.5)


def rows_of(result: StudyResult) -> list[tuple[Any, ...]]:
    return [(r.status, r.reason, r.ich_probability, r.ich, r.location_probabilities) for r in result.slices]


@pytest.fixture
def study(phantom_folder: Path) -> Path:
    return phantom_folder / "study-0001"


def test_an_array_is_scored_as_its_files_are(tiny_bundle: Bundle, study: Path) -> None:
    hu, spacing, uids = volume_of(study)
    with opened(tiny_bundle) as model:
        (expected,) = model.score(study)
        found = model.score_volume(hu, spacing)
    by_uid = {row.sop_uid: row for row in expected.slices}
    assert rows_of(found) == rows_of(StudyResult(expected.study, (), tuple(by_uid[uid] for uid in uids)))
    assert [(row.sop_uid, row.frame) for row in found.slices] == [(str(i + 1), i + 1) for i in range(len(hu))]
    assert found.study.study_uid == "volume"
    for name in ("status", "reason", "flagged", "ich_probability", "location", "span_mm", "covered_share"):
        assert getattr(found.study, name) == getattr(expected.study, name), name
    assert uids[int(found.study.top_sop_uid) - 1] == expected.study.top_sop_uid


@pytest.mark.parametrize(
    "turn",
    [
        lambda hu: (hu.astype(np.int16), "SPL"),
        lambda hu: (hu.astype(np.int32), "spl"),
        lambda hu: (hu.astype(">i2"), "SPL"),
        lambda hu: (hu.astype(">f8"), "SPL"),
        lambda hu: (hu.astype(np.float16), "SPL"),
        lambda hu: (np.asfortranarray(hu), "SPL"),
        lambda hu: (hu[:, ::-1, ::-1], "SAR"),
        lambda hu: (hu[:, :, ::-1], "SPR"),
        lambda hu: (hu, (1, 0, 0, 0, 1, 0)),
        lambda hu: (hu, np.array([1.0, 0, 0, 0, 1, 0], np.float32)),
        lambda hu: (hu.tolist(), "SPL"),
    ],
    ids=["int16", "int32", "big-endian", "big-endian-float", "half", "fortran", "turned", "mirrored", "cosines",
         "cosines-as-array", "lists"],
)  # fmt: skip
def test_neither_type_nor_memory_nor_a_turn_that_is_said_changes_an_answer(
    tiny_bundle: Bundle, study: Path, turn: Any
) -> None:
    hu, spacing, _ = volume_of(study)
    hu = np.clip(hu[8:14], -1024, 2000)
    turned, orientation = turn(hu)
    with opened(tiny_bundle) as model:
        assert rows_of(model.score_volume(turned, spacing, orientation)) == rows_of(model.score_volume(hu, spacing))


def test_a_head_that_stands_on_its_head_is_seen_unless_it_is_said(tiny_bundle: Bundle, study: Path) -> None:
    hu, spacing, _ = volume_of(study)
    with opened(tiny_bundle) as model:
        upright = model.score_volume(hu, spacing)
        said = model.score_volume(hu[::-1], spacing, "IPL")
        unsaid = model.score_volume(hu[::-1], spacing)
    assert said.study.status == upright.study.status == Status.SCORED
    assert rows_of(said) == rows_of(upright)[::-1]
    assert "coverage" in unsaid.study.reason


def test_slices_that_are_not_evenly_spaced_say_where_they_lie(tiny_bundle: Bundle, study: Path) -> None:
    hu, spacing, _ = volume_of(study)
    heights = [i * spacing[0] for i in range(len(hu)) if i != 9]
    without = np.delete(hu, 9, axis=0)
    with opened(tiny_bundle) as model:
        assert "gap" in model.score_volume(without, spacing, positions_mm=heights).study.reason
        even = model.score_volume(without, spacing)
        assert even.study.reason == "" and even.study.span_mm == spacing[0] * (len(without) - 1)
        with pytest.raises(ConfigError, match=f"positions_mm has 3 values, expected {len(without)}"):
            model.score_volume(without, spacing, positions_mm=[0, 5, 10])


def test_thin_slices_are_averaged_as_those_of_files_are(tiny_bundle: Bundle, study: Path) -> None:
    hu, (_, *in_plane), _ = volume_of(study)
    hu = hu[10:14]
    thin = np.concatenate([values[None] + np.arange(-2, 3)[:, None, None] for values in hu])
    with opened(tiny_bundle) as model:
        result = model.score_volume(thin, (1.0, *in_plane))
        thick = model.score_volume(hu, (5.0, *in_plane))
    assert result.study.slices == 5 * thick.study.slices
    assert len({row.place for row in result.slices}) == len(hu)
    assert result.study.ich_probability == pytest.approx(thick.study.ich_probability, abs=1e-4)


def test_what_is_no_head_ct_is_refused_as_a_result(tiny_bundle: Bundle, study: Path) -> None:
    hu, spacing, _ = volume_of(study)
    with opened(tiny_bundle) as model:
        coronal = model.score_volume(hu[8:14], spacing, "PIL")
        raw = model.score_volume(hu + 5000, spacing)
        empty = model.score_volume(np.full((4, 64, 64), -1000), spacing)
    assert {row.reason for row in coronal.slices} == {"not_axial"} and coronal.study.flagged is None
    assert {row.reason for row in raw.slices} == {"implausible_hu"}
    assert empty.study.status == Status.NOT_SCORED
    with opened(tiny_bundle, any_series=True) as model:
        assert model.score_volume(hu[8:14], spacing, "PIL").study.scored == 6


@pytest.mark.parametrize(
    ("hu", "words"),
    [
        (AIR[0], r"array of \(D, H, W\)"),
        (AIR[None], r"array of \(D, H, W\)"),
        (AIR[:0], r"array of \(D, H, W\)"),
        (AIR[:, :31], "31 x 64 pixels, expected 32 to 1024"),
        (np.broadcast_to(np.int16(0), (1, 1025, 64)), "1025 x 64 pixels"),
        (AIR.astype(complex), "complex128"),
        (AIR.astype(bool), "bool"),
        (AIR.astype(object), "object"),
        (np.where(np.arange(3)[:, None, None] == 1, np.nan, AIR), "slice 2 holds NaN or infinity"),
        (np.where(np.arange(3)[:, None, None] == 2, -np.inf, AIR), "slice 3 holds NaN or infinity"),
        (np.ma.masked_less(AIR, 0), "the array is masked"),
        ([[1, 2], [3]], "are an array"),
        (None, "object of shape"),
        ("head", "whole or real numbers"),
    ],
    ids=["2d", "4d", "empty", "tiny", "large", "complex", "bool", "object", "nan", "inf", "masked", "ragged", "none",
         "text"],
)  # fmt: skip
def test_what_is_no_volume_is_refused_in_a_sentence(tiny_bundle: Bundle, hu: Any, words: str) -> None:
    with opened(tiny_bundle) as model, pytest.raises(ConfigError, match=words):
        model.score_volume(hu, SPACING)


@pytest.mark.parametrize(
    ("spacing", "orientation", "words"),
    [
        ((5, 0.5), "SPL", "spacing_mm has 2 values"),
        ((5, 0.5, 0), "SPL", "above 0"),
        ((-5, 0.5, 0.5), "SPL", "above 0"),
        ((5, float("nan"), 0.5), "SPL", "finite"),
        ((5000, 0.5, 0.5), "SPL", "above 0"),
        (None, "SPL", "expected 3 numbers"),
        (SPACING, "SPX", "three letters"),
        (SPACING, "SIL", "three letters"),
        (SPACING, "SP", "three letters"),
        (SPACING, "", "three letters"),
        (SPACING, (1, 0, 0), "orientation has 3 values"),
        (SPACING, (2, 0, 0, 0, 1, 0), "length 1"),
        (SPACING, (1, 0, 0, 1, 0, 0), "right angle"),
        (SPACING, None, "expected 6 numbers"),
    ],
)
def test_geometry_that_says_nothing_is_refused_in_a_sentence(spacing: Any, orientation: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Volume(AIR, spacing, orientation)


@pytest.mark.parametrize("positions", [[1e308, -1e308, 1e308], [0, 5, 1e7], [0, 5, 10**400]])
def test_positions_that_no_scan_has_are_refused_in_a_sentence(positions: Any) -> None:
    with pytest.raises(ConfigError, match=r"positions_mm (holds|is)"):
        Volume(np.zeros((3, 64, 64), np.int16), (5, 0.5, 0.5), positions_mm=positions)


def test_values_beyond_16_bits_are_clipped_and_fractions_kept_to_a_quarter() -> None:
    far = np.array([[1e300, -1e300], [2.0, -3.0]])
    assert stored_of(far, encoding_of(far[None])).view(np.int16).tolist() == [[32767, -32768], [2, -3]]
    real = np.array([[40.125, -0.125], [7.2, 9000.0]], np.float32)
    assert encoding_of(real[None]) == AVERAGED
    assert stored_of(real, AVERAGED).view(np.int16).tolist() == [[161, 0], [29, 32767]]
    whole = np.array([[2**63 + 1, 5]], np.uint64)
    assert stored_of(whole, encoding_of(whole[None])).view(np.int16).tolist() == [[32767, 5]]

"""What becomes of a study's rows once its pixels have been read: copies, values that cannot be HU, blank images.

A slice is judged beside its neighbours, so that this comes after scoring and before a study's result. The rows of the
journal are what readers and the model said; nothing here asks either of them again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from dtvit_edge import reasons
from dtvit_edge.dicom.geometry import SAME_POSITION_MM
from dtvit_edge.dicom.grouping import PlacedSlice, Stack
from dtvit_edge.dicom.identity import place
from dtvit_edge.dicom.plausibility import has_air, has_bone, is_cut, is_thin_air, is_too_high
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.reasons import Reason, Status
from dtvit_edge.results import SliceScore

Key: TypeAlias = tuple[Path, int]  # file and frame
Rows: TypeAlias = dict[Key, SliceScore]

# Crops of real slices to 160 mm kept 7.6 % of air at least, of those to 130 mm a third had less than 1 %.
LEAST_FIELD_OF_VIEW_MM = 180.0
# A head is at most 1.5 times as long as wide.
MOST_ASPECT = 2.0
# On more slices of a scan than this share no brain is seen: the values are no HU. A scan from the neck to the vertex of
# 23 mm steps at both ends has less.
MOST_WITHOUT_BRAIN = 0.25
# The vertex is in view, or the head's end is near, where a slice shows at most this share of the largest head.
END_OF_HEAD = 0.5
# From one slice to the next the air around a real head of 28 slices differed by at most 3 HU.
SAME_AIR_HU = 12.0


@dataclass(frozen=True)
class JudgedStack:
    """A stack after scoring.

    Attributes:
        rows: of its slices, in their order; copies of an image are left out.
        is_plausible: False where its values cannot be HU, and it is set aside as a whole.
        small_fov: its slices show hardly any air, or a head that their border cuts, as crops of a head do.
    """

    stack: Stack
    slices: tuple[tuple[SliceHeader, float | None, SliceScore], ...]
    is_plausible: bool = True
    small_fov: bool = False


def key(header: SliceHeader) -> Key:
    """What a slice's row is known by."""
    return header.file, header.frame


def judge(stacks: Iterable[Stack], answers: Mapping[Key, SliceScore]) -> tuple[list[JudgedStack], Rows]:
    """Judge the rows of a study's suitable series.

    Returns:
        The stacks, and every slice's row as it goes into the result files.
    """
    stacks = list(stacks)
    rows = _without_copies([s.header for stack in stacks for s in stack.slices], answers)
    judged = []
    for stack in stacks:
        originals = [s for s in stack.slices if rows[key(s.header)].reason != reasons.DUPLICATE.code]
        headers = [s.header for s in originals]
        plausible = _judge_values(headers, rows)
        if plausible:
            _judge_repeats(originals, rows)
            _judge_blanks(headers, rows)
        small = plausible and _is_small(headers, rows)
        slices = tuple((s.header, s.height_mm, rows[key(s.header)]) for s in originals)
        judged.append(JudgedStack(stack, slices, plausible, small))
    return judged, rows


def head_mm2(header: SliceHeader, row: SliceScore) -> float:
    """The area of the head in a slice; in pixels where their spacing is not known."""
    between_rows, between_columns = header.pixel_spacing_mm or (1.0, 1.0)
    return (row.head_pixels or 0) * between_rows * between_columns


def _without_copies(headers: Sequence[SliceHeader], answers: Mapping[Key, SliceScore]) -> Rows:
    """Of images with the same UIDs and place the readable one counts, the lossless one, the first of equal pixels."""
    rows = {key(header): answers[key(header)] for header in headers}
    claims: dict[object, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        if header.twin:
            claims[header.identity, header.frame, place(header)].append(header)
    for claimants in claims.values():
        quality = {id(header): _defects(header, rows[key(header)]) for header in claimants}
        least = min(quality.values())
        contents: set[object] = set()
        for header in sorted(claimants, key=lambda h: (quality[id(h)], h.path, str(h.file))):
            row = rows[key(header)]
            encoding = header.encoding
            content = row.measures and (row.measures.digest, encoding.slope, encoding.intercept, encoding.padding)
            if quality[id(header)] > least or content in contents:
                rows[key(header)] = _as(row, reasons.DUPLICATE)
            contents |= {content} - {None}
    return rows


def _defects(header: SliceHeader, row: SliceScore) -> tuple[bool, bool, bool]:
    """What makes a copy worse than another one, the worst first."""
    return not _is_read(row), row.measures is not None and row.measures.constant, header.lossy


def _judge_values(headers: Sequence[SliceHeader], rows: Rows) -> bool:
    """Refuse what cannot be HU; False where that is the whole stack."""
    shown = [h for h in headers if _is_shown(rows[key(h)])]
    other_scale = _rescaled_otherwise(shown, rows)
    wrong = [h for h in shown if _is_wrong(h, rows[key(h)]) or key(h) in other_scale]
    without_brain = sum(rows[key(h)].reason == reasons.NO_BRAIN.code for h in shown)
    heads = [m for h in shown if (m := rows[key(h)].measures) is not None and rows[key(h)].head_pixels]
    without_skull = 2 * sum(not has_bone(m) for m in heads) > len(heads)
    whole = 2 * len(wrong) > len(shown) or without_brain > MOST_WITHOUT_BRAIN * len(shown) or without_skull
    for header in shown if whole else wrong:
        rows[key(header)] = _as(rows[key(header)], reasons.IMPLAUSIBLE_HU)
    return not whole


def _rescaled_otherwise(headers: Sequence[SliceHeader], rows: Rows) -> set[Key]:
    """Slices whose rescale is not that of most, and not that of their own pixels.

    A scan may change its rescale from slice to slice if the stored values change with it: then air stays where it is.
    Where it does not, and would with the rescale of the nearest slice that has the usual one, the slice's is wrong.
    """
    air = [(h, m.air_hu) for h in headers if (m := rows[key(h)].measures) is not None and m.air_hu is not None]
    scales = Counter((h.encoding.slope, h.encoding.intercept) for h, _ in air)
    if len(scales) < 2:
        return set()
    slope, intercept = usual = scales.most_common(1)[0][0]
    levels = {i: level for i, (h, level) in enumerate(air) if (h.encoding.slope, h.encoding.intercept) == usual}
    wrong = set()
    for i, (header, own) in enumerate(air):
        _, level = min((abs(i - j), level) for j, level in levels.items())
        stored = (own - header.encoding.intercept) / header.encoding.slope
        as_it_is, as_others = abs(own - level), abs(stored * slope + intercept - level)
        if as_others <= SAME_AIR_HU < as_it_is and 2 * as_others < as_it_is:
            wrong.add(key(header))
    return wrong


def _judge_repeats(slices: Sequence[PlacedSlice], rows: Rows) -> None:
    """Pixels that lie at several places show at most one of them; which, nobody knows.

    Noise makes every image of a scan another one; only where no head is in view may two be alike.
    """
    places: dict[str, list[PlacedSlice]] = defaultdict(list)
    for s in slices:
        row = rows[key(s.header)]
        if _is_shown(row) and row.measures is not None and row.head_pixels:
            places[row.measures.digest].append(s)
    for alike in places.values():
        heights = [s.height_mm for s in alike if s.height_mm is not None]
        if len(heights) > 1 and max(heights) - min(heights) >= SAME_POSITION_MM:
            for s in alike:
                rows[key(s.header)] = _as(rows[key(s.header)], reasons.REPEATED)


def _judge_blanks(headers: Sequence[SliceHeader], rows: Rows) -> None:
    """A constant image where a head should be is an error; beyond the head's end it is blank."""
    heads = [head_mm2(h, rows[key(h)]) if _is_shown(rows[key(h)]) else 0.0 for h in headers]
    with_head = [i for i, area in enumerate(heads) if area > 0]
    for i, header in enumerate(headers):
        row = rows[key(header)]
        if row.measures is None or not row.measures.constant or not _is_read(row):
            continue
        is_beyond = bool(with_head) and not with_head[0] < i < with_head[-1]
        nearest = heads[with_head[0] if i < with_head[0] else with_head[-1]] if is_beyond else 0.0
        is_end = is_beyond and nearest <= END_OF_HEAD * max(heads)
        rows[key(header)] = _as(row, reasons.BLANK if is_end else reasons.CONSTANT)


def _is_small(headers: Sequence[SliceHeader], rows: Rows) -> bool:
    """Whether most slices are crops: hardly any air in a small field of view, one that no head has the shape of, or a
    head that the image's border cuts."""
    shown = [h for h in headers if _is_shown(rows[key(h)])]
    return 2 * sum(_has_no_air(rows[key(h)]) or _is_narrow(h) or _is_cut(rows[key(h)]) for h in shown) > len(shown)


def _is_wrong(header: SliceHeader, row: SliceScore) -> bool:
    """Whether a slice's values cannot be HU: too many are too high, or nothing around the head is air.

    In a small field of view there may be none.
    """
    if row.measures is None:
        return False
    sides = _field_of_view_mm(header)
    small = sides is not None and min(sides) < LEAST_FIELD_OF_VIEW_MM
    without_air = _has_no_air(row) or is_thin_air(row.measures)
    return is_too_high(row.measures) or (without_air and not small)


def _is_narrow(header: SliceHeader) -> bool:
    """Whether the field of view is small, and of a shape that no head has; a matrix that is misread looks so too."""
    sides = _field_of_view_mm(header)
    return sides is not None and min(sides) < LEAST_FIELD_OF_VIEW_MM and max(sides) > MOST_ASPECT * min(sides)


def _field_of_view_mm(header: SliceHeader) -> tuple[float, float] | None:
    if header.pixel_spacing_mm is None:
        return None
    return header.rows * header.pixel_spacing_mm[0], header.columns * header.pixel_spacing_mm[1]


def _has_no_air(row: SliceScore) -> bool:
    return row.measures is not None and not has_air(row.measures)


def _is_cut(row: SliceScore) -> bool:
    return row.measures is not None and is_cut(row.measures)


def _is_read(row: SliceScore) -> bool:
    return row.status in (Status.SCORED, Status.SKIPPED)


def _is_shown(row: SliceScore) -> bool:
    """Whether a slice's pixels were read, and show something."""
    return _is_read(row) and row.measures is not None and not row.measures.constant


def _as(row: SliceScore, reason: Reason) -> SliceScore:
    """The row of a slice that is not scored after all."""
    return replace(
        row, status=reason.status, reason=reason.code, ich_probability=None, location_probabilities=None, ich=None
    )

from __future__ import annotations

import math

import pytest

from dtvit_edge.report.profile import HEIGHT, LEFT, WIDTH, Point, profile


def points(*values: tuple[float, float | None]) -> list[Point]:
    return [Point(position, probability, f"{position:g}") for position, probability in values]


def test_the_line_breaks_where_a_slice_is_missing_or_has_no_probability() -> None:
    found = profile(points((0, 0.1), (5, 0.2), (15, 0.3), (20, None), (25, 0.5), (30, 1.0)), [(5, 15)], 0.5, in_mm=True)
    assert found is not None
    assert [len(line.split()) for line in found.lines] == [2, 2]
    assert len(found.dots) == 5 and len(found.missing) == 1 and len(found.gaps) == 1


def test_higher_is_more_and_to_the_head_is_right() -> None:
    found = profile(points((-40, 0.0), (0, 0.5), (60, 1.0)), [], 0.5, in_mm=True)
    assert found is not None
    xs, ys = zip(*((x, y) for x, y, _ in found.dots), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys, reverse=True)
    assert min(xs) >= LEFT and max(xs) <= WIDTH and min(ys) >= 0 and max(ys) <= HEIGHT
    assert found.threshold_y == ys[1]
    assert [text for _, text in found.marks] == ["-40", "-20", "0", "20", "40", "60"]


@pytest.mark.parametrize("positions", [(0.0,), (3.0, 3.0), (-1e9, 1e9), (0.0, 1e300)], ids=repr)
def test_odd_positions_make_no_endless_axis(positions: tuple[float, ...]) -> None:
    found = profile(points(*((position, 0.5) for position in positions)), [], 0.5, in_mm=True)
    assert found is not None and len(found.marks) <= 40
    assert all(math.isfinite(x) for x, _, _ in found.dots)


def test_without_an_image_there_is_no_profile() -> None:
    assert profile([], [], 0.5, in_mm=True) is None

"""What a study's page shows: its stacks image by image, the highest ones with their maps, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from dtvit_edge.dicom.discover import Plan
from dtvit_edge.dicom.grouping import Stack
from dtvit_edge.dicom.images import images as images_in
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.escaping import csv_cell
from dtvit_edge.reasons import REASONS
from dtvit_edge.report.pictures import LEVELS, MapDrawing
from dtvit_edge.report.profile import Point, Profile, profile
from dtvit_edge.report.run_results import SliceRow, StudyRow
from dtvit_edge.spec import PreprocessSpec

MOST_SHOWN = 3  # highest images with pictures
# Images drawn of all stacks of a study together; a head has a tenth, and a page may have a megabyte.
MOST_CELLS = 400

RowKey: TypeAlias = tuple[str, str, int]  # series, path, frame


@dataclass(frozen=True)
class StripCell:
    """An image of a stack, as one cell of the strip.

    Attributes:
        number: its place, from 1 at the feet; position_mm: None where it is not known.
        level: 0 to 9, of its probability; None where it has none, and `why` says why not.
        rank: among those with pictures, from 0; None where it has none.
        lost: slices that were to be averaged into it, and could not be read; gap_after: a slice is missing above it.
    """

    image: SliceImage
    number: int
    position_mm: float | None
    probability: float | None
    level: int | None
    code: str
    why: str
    rank: int | None
    lost: int
    gap_after: bool = False

    @staticmethod
    def level_of(probability: float | None) -> int | None:
        """The level of a probability."""
        return None if probability is None else min(int(LEVELS * probability), LEVELS - 1)

    @property
    def text(self) -> str:
        """What the cell says, for those who do not see its colour."""
        where = f"place {self.number}" + ("" if self.position_mm is None else f", {self.position_mm:.1f} mm")
        said = self.why if self.probability is None else f"probability {self.probability:.4f}"
        return f"{where}: {said}" + (f" ({self.lost} of its slices could not be used)" if self.lost else "")


@dataclass(frozen=True)
class StackView:
    """A stack.

    Attributes:
        facts: what its headers say of how it was made; side: of which side of a picture is the patient's right.
        answers: the study's highest image is one of it; hidden: so many of its images are not drawn.
    """

    cells: tuple[StripCell, ...]
    profile: Profile | None
    gaps: tuple[tuple[float, float], ...]
    series_uids: tuple[str, ...]
    facts: str
    side: str
    answers: bool
    hidden: int = 0

    @property
    def drawn(self) -> tuple[StripCell, ...]:
        """The cells of the strip."""
        return self.cells[: len(self.cells) - self.hidden]

    @property
    def highest(self) -> list[StripCell]:
        """The highest images, the first one first."""
        ranked = {cell.rank: cell for cell in self.cells if cell.rank is not None}
        return [ranked[rank] for rank in sorted(ranked)]


@dataclass(frozen=True)
class HighImage:
    """One of the highest images, with its pictures; `note` says why one is not there."""

    cell: StripCell
    picture: str
    maps: tuple[MapDrawing, ...]
    note: str = ""


def stack_views(
    study: StudyRow, plan: Plan, rows: Sequence[SliceRow], spec: PreprocessSpec, threshold: float
) -> tuple[list[StackView], int]:
    """The stacks of a study's suitable series, the one that answers first, and how many more are not drawn.

    Args:
        plan: the study's part of the plan.
        rows: of `slices.csv`.
    """
    known = {(row.series_uid, row.path, row.frame): row for row in rows}
    views = [_stack_view(stack, known, spec, threshold, study.top_sop_uid) for stack in plan.stacks(spec.thickness_mm)]
    views.sort(key=lambda view: (not view.answers, -max((c.probability or 0.0 for c in view.cells), default=0.0)))
    shown = bounded(views)
    return shown, len(views) - len(shown)


def bounded(views: Sequence[StackView]) -> list[StackView]:
    """The same with at most `MOST_CELLS` cells, the first stacks' first; a stack without any is left out of the end."""
    left = MOST_CELLS
    shown: list[StackView] = []
    for view in views:
        if left > 0:
            hidden = max(len(view.cells) - left, 0)
            shown.append(view if not hidden else replace(view, hidden=hidden, profile=None))
            left -= len(view.cells)
    return shown


def _stack_view(
    stack: Stack, rows: Mapping[RowKey, SliceRow], spec: PreprocessSpec, threshold: float, top: str
) -> StackView:
    heights = {id(s.header): s.height_mm for s in stack.slices}
    images = images_in(stack, spec.thickness_mm)
    found = [[rows.get(_key(header)) for header in image.headers] for image in images]
    probabilities = [next((r.probability for r in own if r and r.probability is not None), None) for own in found]
    first = {i for i, own in enumerate(found) if any(row is not None and row.sop_uid == top for row in own)}
    highest = _highest_places(images, probabilities, first, min(MOST_SHOWN, spec.top_places))
    cells = []
    for i, (image, own, probability) in enumerate(zip(images, found, probabilities, strict=True)):
        placed = [h for header in image.headers if (h := heights[id(header)]) is not None]
        code = "" if probability is not None else next((r.reason for r in own if r is not None), "")
        cells.append(
            StripCell(
                image,
                image.place,
                sum(placed) / len(placed) if placed else None,
                probability,
                StripCell.level_of(probability),
                code,
                REASONS[code].sentence if code in REASONS else "The file is not where it was when it was scored.",
                highest.get(i),
                sum(r is None or r.probability is None for r in own) if probability is not None else 0,
            )
        )
    in_mm = all(cell.position_mm is not None and math.isfinite(cell.position_mm) for cell in cells)
    points = [Point(c.position_mm if in_mm and c.position_mm is not None else i + 1, c.probability, c.text)
              for i, c in enumerate(cells)]  # fmt: skip
    gaps = tuple(stack.gaps)
    if in_mm:
        cells = [
            replace(cell, gap_after=_gap_between(cell, above, gaps))
            for cell, above in zip(cells, [*cells[1:], None], strict=True)
        ]

    return StackView(
        tuple(cells),
        profile(points, gaps if in_mm else (), threshold, in_mm=in_mm),
        gaps,
        tuple(dict.fromkeys(s.series_uid for s in stack.series)),
        _facts(stack),
        _side(stack),
        bool(first),
    )


def _gap_between(cell: StripCell, above: StripCell | None, gaps: Sequence[tuple[float, float]]) -> bool:
    low, high = cell.position_mm or 0.0, (above.position_mm or 0.0) if above else None
    return high is not None and any(start < high and end > low for start, end in gaps)


def _key(header: SliceHeader) -> RowKey:
    """By what a slice's row is found: cells of a CSV are escaped."""
    return csv_cell(header.identity.series_uid), csv_cell(header.path), header.frame


def _highest_places(
    images: Sequence[SliceImage], probabilities: Sequence[float | None], first: set[int], count: int
) -> dict[int, int]:
    """Rank by index of the highest images, one a place; of equals in four decimals those of `first` come first."""
    order = sorted(
        (i for i, p in enumerate(probabilities) if p is not None),
        key=lambda i: (-(probabilities[i] or 0.0), i not in first, images[i].place, i),
    )
    taken: dict[int, int] = {}
    for i in order:
        taken.setdefault(images[i].place, i)
    return {i: rank for rank, i in enumerate(list(taken.values())[:count])}


def _facts(stack: Stack) -> str:
    headers = [s.header for s in stack.slices]
    thickness = sorted({h.thickness_mm for h in headers if h.thickness_mm is not None})
    kernels = sorted({h.kernel for h in headers if h.kernel})
    said = [f"{len(headers)} slices"]
    if thickness:
        said.append(" and ".join(f"{value:g}" for value in thickness[:3]) + " mm thick")
    if kernels:
        said.append("kernel " + ", ".join(kernels[:3]))
    return ", ".join(said)


def _side(stack: Stack) -> str:
    """Where the patient's right is in a picture, as its row's direction says (PS3.3 C.7.6.2.1.1)."""
    across = {o[0][0] > 0 for s in stack.slices if (o := s.header.orientation) is not None and abs(o[0][0]) > 0.5}
    if len(across) != 1:
        return ""
    return ": the patient's right is on the " + ("left" if across.pop() else "right")

"""Studies: a head, a bleeding and an acquisition, drawn from one seed, rendered slice by slice.

The same seed gives the same pixels with the same versions of NumPy and OpenCV, whichever slices are asked
for and in whatever order.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.anatomy import Head, draw_head
from dtvit_edge.phantom.bleed import Bleeding, blood_cover, draw_bleeding, paint_bleeding, press, visible_mm2
from dtvit_edge.phantom.brain import paint_brain
from dtvit_edge.phantom.canvas import Array, Canvas
from dtvit_edge.phantom.scanner import Acquisition, draw_acquisition, headrest_plane, reconstruct
from dtvit_edge.phantom.skull import cavity_surface, paint_skull, skin_surface
from dtvit_edge.phantom.textures import Noise, draw_folds
from dtvit_edge.spec import LOCATION_LABELS

_GRID = tissues.MATRIX // 2
_PLAN_GRID = tissues.MATRIX // 4
_BOX_STEP = 8
_PLAN_MARGIN = 1.25
_MAX_POSITIVE = 8


@dataclass(frozen=True)
class PhantomSlice:
    """One rendered slice and its truth.

    index: place in the stack, 0 the lowest. hu: (512, 512) int16. haemorrhage: (512, 512) bool, the visible
    blood, in the ventricles too. location: None where `ich` is False. position_mm: ImagePositionPatient.
    """

    index: int
    hu: npt.NDArray[np.int16]
    haemorrhage: npt.NDArray[np.bool_]
    ich: bool
    location: str | None
    position_mm: tuple[float, float, float]
    haemorrhage_mm2: float


@dataclass(frozen=True)
class PhantomStudy:
    """A study, its slices (all, or those asked for) ordered from base to vertex.

    orientation: ImageOrientationPatient. spacing_mm: distance of neighbouring slices along their normal.
    """

    seed: int
    location: str | None
    slices: tuple[PhantomSlice, ...]
    slice_count: int
    pixel_spacing_mm: float
    orientation: tuple[float, float, float, float, float, float]
    thickness_mm: float
    spacing_mm: float
    tilt_deg: float
    rescale_intercept: int
    kernel: str


@dataclass(frozen=True, eq=False)
class StudyPlan:
    """All that a study's slices are rendered from. Cheap; `positive` are the indices of slices with blood."""

    seed: int
    location: str | None
    head: Head
    acquisition: Acquisition
    bleeding: Bleeding
    positive: tuple[int, ...]
    folds: tuple[Array, Array]
    coarse: Noise
    gantry: Array

    @property
    def slice_count(self) -> int:
        """Slices in the stack."""
        return self.acquisition.slices


def _stream(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """One generator per purpose, so that asking for fewer slices changes nothing in the others."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *more])


def plan_study(seed: int, location: str | None = "auto") -> StudyPlan:
    """Draw a study: `location` one of the three, None for no haemorrhage, "auto" for either (half and half).

    The same seed with another location is the same head in the same scanner with another bleeding.
    Raises ValueError for any other location or a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    if location == "auto":
        rng = _stream(seed, "location")
        location = str(rng.choice(LOCATION_LABELS)) if rng.random() < 0.5 else None
    if location is not None and location not in LOCATION_LABELS:
        raise ValueError(f"location is {location!r}, expected one of {', '.join(LOCATION_LABELS)}, None or 'auto'")
    head = draw_head(_stream(seed, "head"))
    acquisition = draw_acquisition(_stream(seed, "acquisition"), head)
    bleeding, positive = _place_bleeding(seed, location, head, acquisition)
    normal_mm = acquisition.slices * acquisition.spacing_mm
    width_mm = acquisition.pixel_spacing_mm * tissues.MATRIX
    return StudyPlan(
        seed,
        location,
        head,
        acquisition,
        bleeding,
        positive,
        folds=draw_folds(_stream(seed, "folds"), head.gyrus_mm),
        coarse=Noise(_stream(seed, "coarse"), 6.0, width_mm, -acquisition.spacing_mm, normal_mm),
        gantry=headrest_plane(acquisition, _GRID),
    )


def _place_bleeding(
    seed: int, location: str | None, head: Head, acquisition: Acquisition
) -> tuple[Bleeding, tuple[int, ...]]:
    """Draw bleedings until one shows in two to eight slices."""
    if location is None:
        return Bleeding(None), ()
    for attempt in range(200):
        bleeding = draw_bleeding(_stream(seed, location, attempt), head, location)
        positive = tuple(i for i in range(acquisition.slices) if _shows(i, head, acquisition, bleeding))
        if 2 <= len(positive) <= _MAX_POSITIVE:
            return bleeding, positive
    raise RuntimeError(f"no visible {location} haemorrhage found for seed {seed}")


def _shows(index: int, head: Head, acquisition: Acquisition, bleeding: Bleeding) -> bool:
    middle = _canvas_origin(acquisition, index, 1, 0.0)
    normal = np.cross(acquisition.direction_to_head(acquisition.column), acquisition.direction_to_head(acquisition.row))
    normal /= np.linalg.norm(normal)
    if all(abs(float((np.asarray(b.centre) - middle) @ normal)) > 2.5 * max(b.lobes[0].radii) for b in bleeding.bleeds):
        return False
    area = _area_mm2(index, head, acquisition, bleeding, _PLAN_GRID)
    if 0 < area < 4 * tissues.VISIBLE_MM2:
        area = _area_mm2(index, head, acquisition, bleeding, _GRID)
    return area >= _PLAN_MARGIN * tissues.VISIBLE_MM2


def _area_mm2(index: int, head: Head, acquisition: Acquisition, bleeding: Bleeding, size: int) -> float:
    """Visible blood of a slice on a grid of `size`, without its noise."""
    canvas = _canvas(acquisition, index, size, (0, size, 0, size))
    _, cavity = cavity_surface(canvas, head)
    pixel_mm2 = (acquisition.pixel_spacing_mm * tissues.MATRIX / size) ** 2
    return visible_mm2(blood_cover(canvas, head, bleeding, cavity), pixel_mm2)


def _canvas_origin(acquisition: Acquisition, index: int, size: int, offset_mm: float) -> npt.NDArray[np.float64]:
    pitch = acquisition.pixel_spacing_mm * tissues.MATRIX / size
    normal = np.cross(acquisition.column, acquisition.row)
    start = acquisition.position_mm(index) + normal * offset_mm
    start = start + (pitch - acquisition.pixel_spacing_mm) / 2 * (acquisition.column + acquisition.row)
    return acquisition.to_head(start)


def _head_box(acquisition: Acquisition, head: Head, index: int) -> tuple[int, int, int, int] | None:
    """Rows and columns of the grid that the head lies in, looked up coarsely; None above the head."""
    size = _GRID // _BOX_STEP
    canvas = _canvas(acquisition, index, size, (0, size, 0, size))
    vault, _ = cavity_surface(canvas, head)
    outside, _ = skin_surface(canvas, head, vault, 0.0)
    inside = outside.min(axis=0) < 4.0 + canvas.pitch_mm / 2
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    return (
        int(rows[0]) * _BOX_STEP,
        int(rows[-1] + 1) * _BOX_STEP,
        int(columns[0]) * _BOX_STEP,
        int(columns[-1] + 1) * _BOX_STEP,
    )


def _canvas(acquisition: Acquisition, index: int, size: int, box: tuple[int, int, int, int]) -> Canvas:
    pitch = acquisition.pixel_spacing_mm * tissues.MATRIX / size
    offsets = (
        (np.arange(tissues.SUBSLICES) - (tissues.SUBSLICES - 1) / 2) * acquisition.thickness_mm / tissues.SUBSLICES
    )
    origins = np.stack([_canvas_origin(acquisition, index, size, float(o)) for o in offsets])
    column = acquisition.direction_to_head(acquisition.column) * pitch
    row = acquisition.direction_to_head(acquisition.row) * pitch
    shape = (box[1] - box[0], box[3] - box[2])
    return Canvas(origins + box[0] * row + box[2] * column, column, row, shape, pitch, tissues.AIR_HU)


def render_slice(plan: StudyPlan, index: int) -> PhantomSlice:
    """Render one slice of a planned study; about as quick alone as among its neighbours."""
    if not 0 <= index < plan.slice_count:
        raise IndexError(f"slice {index} of {plan.slice_count}")
    acquisition = plan.acquisition
    rng = _stream(plan.seed, "slice", index)
    image, blood = plan.gantry.copy(), None
    box = _head_box(acquisition, plan.head, index)
    if box is not None:
        inside = slice(box[0], box[1]), slice(box[2], box[3])
        image[inside], bleed_cover = _paint(plan, index, box, rng)
        if index in plan.positive:
            blood = np.zeros_like(image)
            blood[inside] = bleed_cover

    size = (tissues.MATRIX, tissues.MATRIX)
    ideal: Array = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    haemorrhage = np.zeros(size, np.bool_)
    if blood is not None:
        cover = cv2.resize(blood, size, interpolation=cv2.INTER_LINEAR)
        haemorrhage = (cover >= 0.5) & (ideal >= tissues.VISIBLE_HU)
    hu = reconstruct(acquisition, index, ideal, rng)
    x, y, z = (round(float(v), 6) for v in acquisition.position_mm(index))
    ich = blood is not None
    area = float(np.count_nonzero(haemorrhage)) * acquisition.pixel_spacing_mm**2
    return PhantomSlice(index, hu, haemorrhage, ich, plan.location if ich else None, (x, y, z), area)


def _paint(
    plan: StudyPlan, index: int, box: tuple[int, int, int, int], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Densities and cover of blood in the box, each (rows, columns) float32, averaged over the slice."""
    acquisition, head = plan.acquisition, plan.head
    inside = slice(box[0], box[1]), slice(box[2], box[3])
    canvas = _canvas(acquisition, index, _GRID, box)
    canvas.hu[:] = plan.gantry[inside]
    third = acquisition.thickness_mm / tissues.SUBSLICES
    middle = index * acquisition.spacing_mm
    coarse = np.stack([plan.coarse.at(middle + o * third, _GRID)[inside] for o in (-1, 0, 1)])
    fine: Array = rng.standard_normal(coarse.shape[1:], dtype=np.float32)
    fine = cv2.GaussianBlur(fine, (0, 0), 1.4).astype(np.float32, copy=False)
    fine *= 1 / np.float32(fine.std())

    vault, cavity = cavity_surface(canvas, head)
    paint_skull(canvas, head, vault, cavity, coarse, fine)
    straight = canvas.x, canvas.y, canvas.z
    canvas.x, canvas.y, canvas.z = press(canvas, plan.bleeding, cavity)
    if plan.bleeding.shift_mm:
        near = np.exp(-((canvas.y / 55) ** 2) - ((canvas.z - 28) / 34) ** 2)
        near *= np.clip(1 - (canvas.x / 62) ** 2, 0, 1)
        canvas.x = canvas.x - np.float32(plan.bleeding.shift_mm) * near
    canvas.slack_mm = 6.0
    ventricles = paint_brain(canvas, head, cavity, plan.folds, coarse)
    canvas.slack_mm = 0.0
    canvas.x, canvas.y, canvas.z = straight
    if index in plan.positive:
        blood = paint_bleeding(canvas, head, plan.bleeding, cavity, ventricles, coarse)
    else:
        blood = np.zeros_like(canvas.hu)
    return canvas.hu.mean(axis=0), blood.mean(axis=0)


def render_study(seed: int, location: str | None = "auto", indices: Sequence[int] | None = None) -> PhantomStudy:
    """Render a study: `location` as in `plan_study`, `indices` the slices wanted (0 the lowest), or all."""
    return render_plan(plan_study(seed, location), indices)


def render_plan(plan: StudyPlan, indices: Sequence[int] | None = None) -> PhantomStudy:
    """Render a planned study, all of it or some slices."""
    wanted = range(plan.slice_count) if indices is None else sorted(set(indices))
    acquisition = plan.acquisition
    cosines = [round(float(v), 9) for v in (*acquisition.column, *acquisition.row)]
    return PhantomStudy(
        plan.seed,
        plan.location,
        tuple(render_slice(plan, i) for i in wanted),
        plan.slice_count,
        acquisition.pixel_spacing_mm,
        (cosines[0], cosines[1], cosines[2], cosines[3], cosines[4], cosines[5]),
        acquisition.thickness_mm,
        acquisition.spacing_mm,
        acquisition.tilt_deg,
        acquisition.intercept,
        acquisition.kernel,
    )

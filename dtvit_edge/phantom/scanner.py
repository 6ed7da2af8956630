"""The scanner: how the head lies in it, the headrest, and what reconstruction does to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.anatomy import CAVITY_CENTRE, CAVITY_RADII, Head
from dtvit_edge.phantom.canvas import Array, ramp

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Headrest:
    """A shell behind the head, the same at every table position; patient millimetres.

    half_width_mm, depth_mm: its inner half axes about (x_mm, y_mm); exponent: 2 an ellipse, larger boxier.
    top_mm: the arms end at this y.
    """

    x_mm: float
    y_mm: float
    half_width_mm: float
    depth_mm: float
    exponent: float
    shell_mm: float
    shell_hu: float
    foam_hu: float
    top_mm: float


@dataclass(frozen=True)
class Acquisition:
    """How one study was acquired. Coordinates are DICOM's patient millimetres (LPS).

    turn, origin_mm, scale: head point h (canonical) lies at `origin_mm + turn @ (scale * h)`.
    first_mm: centre of the first pixel of the lowest slice; each further slice is `step_mm` along z.
    """

    pixel_spacing_mm: float
    thickness_mm: float
    spacing_mm: float
    tilt_deg: float
    slices: int
    turn: Vector
    origin_mm: Vector
    scale: Vector
    first_mm: Vector
    headrest: Headrest
    noise_hu: float
    grain_px: float
    blur_px: float
    sharpen: float
    beam_hardening: float
    motion_px: float
    moved: tuple[int, ...]
    round_field: bool
    intercept: int
    kernel: str

    @property
    def column(self) -> Vector:
        """Unit vector to the next column (first half of ImageOrientationPatient)."""
        return np.array([1.0, 0.0, 0.0])

    @property
    def row(self) -> Vector:
        """Unit vector to the next row (second half of ImageOrientationPatient)."""
        tilt = np.radians(self.tilt_deg)
        return np.array([0.0, np.cos(tilt), -np.sin(tilt)])

    @property
    def step_mm(self) -> float:
        """Table travel between slices: more than their distance where the gantry is tilted."""
        return self.spacing_mm / float(np.cos(np.radians(self.tilt_deg)))

    def position_mm(self, index: int) -> Vector:
        """ImagePositionPatient of a slice, 0 the lowest."""
        position: Vector = self.first_mm + np.array([0.0, 0.0, index * self.step_mm])
        return position

    def to_head(self, points: Vector) -> Vector:
        """Patient points (..., 3) in canonical head coordinates."""
        return (points - self.origin_mm) @ self.turn / self.scale

    def direction_to_head(self, direction: Vector) -> Vector:
        """A patient direction in canonical head coordinates."""
        return direction @ self.turn / self.scale


def _rotation(axis: int, degrees: float) -> Vector:
    cos, sin = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


def draw_acquisition(rng: np.random.Generator, head: Head) -> Acquisition:
    """Pose, field of view, stack of slices, headrest and image quality of one study."""
    tilt = round(float(rng.uniform(4, 20)), 1) if rng.random() < 0.45 else 0.0
    thickness, spacing = ((5.0, 5.0), (5.0, 5.5), (4.0, 5.0), (4.0, 4.5))[int(rng.integers(4))]
    roll, yaw, pitch = (float(np.clip(rng.normal(0, s), -2 * s, 2 * s)) for s in (2.5, 5.0, 4.0))
    turn = _rotation(0, -tilt + pitch) @ _rotation(1, roll) @ _rotation(2, yaw)
    scale = np.asarray(head.scale)
    length = 2 * (CAVITY_RADII[1] + head.skull_mm + head.scalp_mm) * head.scale[1]
    field = float(np.clip(length + rng.uniform(12, 50) + 1.2 * tilt, 215, 265))
    pixel = round(field / tissues.MATRIX, 6)
    origin = np.array([rng.normal(0, 4), rng.normal(0, 4), 0.0])

    low = float(rng.uniform(-44, -22)) * scale[2]
    high = (CAVITY_CENTRE[2] + CAVITY_RADII[2] + float(rng.uniform(-8, 8))) * scale[2]
    slices = int(np.clip((high - low) / spacing + 1, 20, 34))
    acquisition_row = np.array([0.0, np.cos(np.radians(tilt)), -np.sin(np.radians(tilt))])
    step = spacing / float(np.cos(np.radians(tilt)))
    middle = origin + turn @ np.array([0.0, -4.0, 0.0]) * scale
    half = (tissues.MATRIX - 1) / 2 * pixel
    middle = middle - acquisition_row * (middle @ acquisition_row - origin @ acquisition_row)
    first = middle - half * np.array([1.0, 0, 0]) - half * acquisition_row
    normal = np.array([0.0, np.sin(np.radians(tilt)), np.cos(np.radians(tilt))])
    lowest = origin + normal * low
    first = first + np.array([0, 0, 1.0]) * ((lowest - first) @ normal) / normal[2]
    lift = (slices / 2) * step * float(np.sin(np.radians(tilt)))
    first = first + acquisition_row * lift * float(rng.uniform(0.75, 1.0))
    first = first + np.array([rng.normal(0, 3), 0.0, 0.0]) + acquisition_row * float(rng.normal(0, 3))

    sharp = float(rng.uniform(0, 1))
    moved = tuple(int(i) for i in rng.choice(slices, 3, replace=False)) if rng.random() < 0.12 else ()
    return Acquisition(
        pixel_spacing_mm=pixel,
        thickness_mm=thickness,
        spacing_mm=spacing,
        tilt_deg=tilt,
        slices=slices,
        turn=turn,
        origin_mm=origin,
        scale=scale,
        first_mm=first,
        headrest=_draw_headrest(rng, head, turn, origin),
        noise_hu=float(rng.uniform(2.0, 4.8)),
        grain_px=float(0.75 + 0.5 * (1 - sharp) + rng.uniform(0, 0.15)),
        blur_px=float(0.55 + 0.5 * (1 - sharp)),
        sharpen=float(0.45 * sharp),
        beam_hardening=float(rng.uniform(0, 1)),
        motion_px=float(rng.uniform(1.0, 3.0)),
        moved=moved,
        round_field=bool(rng.random() < 0.3),
        intercept=int(rng.choice((-1024, 0), p=(0.75, 0.25))),
        kernel=("SOFT", "STANDARD", "BRAIN")[int(sharp * 2.999)],
    )


def _draw_headrest(rng: np.random.Generator, head: Head, turn: Vector, origin: Vector) -> Headrest:
    scale = np.asarray(head.scale)
    radii = (np.asarray(CAVITY_RADII) + head.skull_mm * 1.3 + head.scalp_mm) * scale
    middle = origin + turn @ (np.asarray(CAVITY_CENTRE) * scale)
    back = float(middle[1] + np.linalg.norm(radii * turn[1]))
    half_width = float(radii[0]) + 14 + float(rng.uniform(3, 22))
    depth = float(rng.uniform(70, 130))
    bottom = back + float(rng.uniform(3, 22))
    arms = float(rng.uniform(0.15, 1.0))
    return Headrest(
        x_mm=float(origin[0] + rng.normal(0, 3)),
        y_mm=bottom - depth,
        half_width_mm=half_width,
        depth_mm=depth,
        exponent=float(rng.uniform(2.0, 4.5)),
        shell_mm=float(rng.uniform(1.8, 5.0)),
        shell_hu=float(rng.choice((rng.uniform(40, 200), rng.uniform(200, 700)))),
        foam_hu=float(tissues.FOAM_HU + rng.uniform(-50, 25)),
        top_mm=bottom - arms * min(depth, 110.0),
    )


def headrest_plane(acquisition: Acquisition, size: int) -> Array:
    """The empty gantry with its headrest in any slice's plane: (size, size) float32 HU."""
    rest, pitch = acquisition.headrest, acquisition.pixel_spacing_mm * tissues.MATRIX / size
    start = acquisition.first_mm + (pitch - acquisition.pixel_spacing_mm) / 2 * (acquisition.column + acquisition.row)
    x = (start[0] + pitch * np.arange(size) - rest.x_mm)[None, :]
    y = (start[1] + pitch * acquisition.row[1] * np.arange(size))[:, None]
    below = np.maximum(y - rest.y_mm, 0.0)
    u, v = np.abs(x) / rest.half_width_mm, below / rest.depth_mm
    radius = (u**rest.exponent + v**rest.exponent) ** (1 / rest.exponent)
    steep = np.hypot(u ** (rest.exponent - 1) / rest.half_width_mm, v ** (rest.exponent - 1) / rest.depth_mm)
    outside = (radius - 1) * radius ** (rest.exponent - 1) / (steep + 1e-4)
    within = ramp(-3, 3, y - rest.top_mm)
    shell = np.clip(0.5 + (rest.shell_mm / 2 - np.abs(outside - rest.shell_mm / 2)) / pitch, 0, 1) * within
    foam = np.clip(0.5 - outside / pitch, 0, 1) * ramp(-1, 1, y - rest.top_mm - 12)
    hu: Vector = tissues.AIR_HU + foam * (rest.foam_hu - tissues.AIR_HU)
    hu = hu + shell * (rest.shell_hu - hu)
    return hu.astype(np.float32)


def reconstruct(acquisition: Acquisition, index: int, hu: Array, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """What the scanner makes of a slice: motion, streaks, kernel, noise. `hu`: (MATRIX, MATRIX) float32."""
    image: Any = hu
    if index in acquisition.moved:
        angle, shift = float(rng.normal(0, 0.7)), acquisition.motion_px
        matrix: Any = cv2.getRotationMatrix2D((tissues.MATRIX / 2, tissues.MATRIX / 2), angle, 1.0)
        matrix[:, 2] += rng.normal(0, 0.7, 2) * shift
        moved = cv2.warpAffine(image, matrix, (tissues.MATRIX, tissues.MATRIX), borderMode=cv2.BORDER_REPLICATE)
        image = image + np.float32(rng.uniform(0.3, 0.5)) * (moved - image)
    bone = np.clip(image[::4, ::4] - 300.0, 0, 1500)
    image = cv2.GaussianBlur(image, (0, 0), acquisition.blur_px)
    if acquisition.sharpen > 0.05:
        wide = cv2.GaussianBlur(image, (0, 0), 1.6)
        image = cv2.addWeighted(image, 1 + acquisition.sharpen, wide, -acquisition.sharpen, 0)
    image = image + _noise(acquisition, bone, rng)
    np.maximum(image, -1024.0 + 3 * rng.random(), out=image)
    if acquisition.round_field:
        steps = (np.arange(tissues.MATRIX, dtype=np.float32) - (tissues.MATRIX - 1) / 2) ** 2
        image[steps[None, :] + steps[:, None] > (tissues.MATRIX / 2) ** 2] = -1024
    stored: npt.NDArray[np.int16] = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return stored


def _noise(acquisition: Acquisition, bone: Array, rng: np.random.Generator) -> Array:
    """Noise without low frequencies, more of it where rays crossed more bone, and dark bars there."""
    size = tissues.MATRIX
    white = rng.standard_normal((size, size), dtype=np.float32)
    grain: Any = cv2.GaussianBlur(white, (0, 0), acquisition.grain_px)
    grain -= cv2.GaussianBlur(grain, (0, 0), 4.0) * np.float32(0.55)
    load: Any = cv2.GaussianBlur(bone.mean(axis=1, keepdims=True) / 300.0, (1, 0), sigmaX=0.1, sigmaY=3.0)
    load = cv2.resize(np.clip(load, 0, 1.8), (1, size), interpolation=cv2.INTER_LINEAR)
    gain = acquisition.noise_hu * (0.85 + 0.25 * load)
    noise: Array = grain * (gain / np.float32(grain.std()))
    if float(load.max()) > 0.4 and acquisition.beam_hardening > 0.05:
        lines: Any = rng.standard_normal((size, size // 8), dtype=np.float32)
        lines = cv2.GaussianBlur(lines, (0, 0), sigmaX=6.0, sigmaY=0.9)
        lines = cv2.resize(lines / lines.std(), (size, size), interpolation=cv2.INTER_LINEAR)
        strength = acquisition.beam_hardening * ramp(0.5, 1.4, load)
        noise += lines * (3.0 * strength)
        bars: Any = cv2.GaussianBlur(bone, (0, 0), sigmaX=16, sigmaY=3)
        bars = cv2.resize(bars, (size, size), interpolation=cv2.INTER_LINEAR)
        noise -= strength * np.float32(0.02) * np.minimum(bars, 500)
    return noise

"""Haemorrhages: where they start, how they grow, and which slices show them.

**No slice is ambiguous.** A haemorrhage is drawn in whole slices: a slice that would show less than
`tissues.VISIBLE_MM2` of blood at `tissues.VISIBLE_HU` or more shows none, so its upper and lower ends are
cut at the faces of its first and last visible slices. A slice is positive if and only if blood was drawn in
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.anatomy import CAVITY_CENTRE, CAVITY_RADII, Head
from dtvit_edge.phantom.brain import tentorium_height
from dtvit_edge.phantom.canvas import Array, Canvas, Window, ramp
from dtvit_edge.phantom.parts import Ellipsoid, Point

_PRESS = 0.28
"""How far blood pushes the brain aside, as a share of the distance from its centre."""


@dataclass(frozen=True)
class Bleed:
    """One haemorrhage in canonical head coordinates: merged ellipsoids with a wavy surface.

    waves: (K, 5) float64, each a wave vector in rad/mm, a phase and an amplitude in mm.
    """

    location: str
    centre: Point
    radius_mm: float
    lobes: tuple[Ellipsoid, ...]
    waves: tuple[tuple[float, float, float, float, float], ...]
    hu: float
    mottle_hu: float
    oedema_mm: float


@dataclass(frozen=True)
class Bleeding:
    """All the blood of one study: haemorrhages of one region, blood in the ventricles, the midline's shift.

    ventricle_level_mm: blood lies in the ventricles behind this y, canonical mm; None where there is none.
    shift_mm: the brain's midline is moved this far along x at its most.
    """

    location: str | None
    bleeds: tuple[Bleed, ...] = ()
    ventricle_level_mm: float | None = None
    ventricle_hu: float = 0.0
    shift_mm: float = 0.0


def draw_bleeding(rng: np.random.Generator, head: Head, location: str) -> Bleeding:
    """A study's haemorrhage in the given region; now and then two."""
    bleeds = [_draw_bleed(rng, head, location)]
    if rng.random() < 0.1:
        bleeds.append(_draw_bleed(rng, head, location))
    first = bleeds[0]
    level = None
    if rng.random() < {"deep": 0.3, "lobar": 0.1, "subtentorial": 0.0}[location]:
        level = float(rng.uniform(15, 40))
    shift = 0.0
    if location != "subtentorial" and first.radius_mm > 9 and rng.random() < 0.7:
        shift = -np.sign(first.centre[0]) * float(rng.uniform(0.1, 0.45)) * (first.radius_mm - 6)
    return Bleeding(location, tuple(bleeds), level, float(rng.uniform(*tissues.BLOOD_HU)), float(shift))


def _draw_bleed(rng: np.random.Generator, head: Head, location: str) -> Bleed:
    place = {"deep": _place_deep, "lobar": _place_lobar, "subtentorial": _place_subtentorial}[location]
    centre, radii, turn = place(rng, head)
    radius = float(np.prod(radii) ** (1 / 3))
    lobes = [Ellipsoid(centre, radii, 0.0, turn)]
    for _ in range(int(rng.integers(0, 6))):
        way = rng.normal(size=3)
        way *= float(rng.uniform(0.4, 0.85)) / np.linalg.norm(way)
        size = float(rng.uniform(0.4, 0.75))
        lobes.append(
            Ellipsoid(
                (
                    centre[0] + float(way[0]) * radii[0],
                    centre[1] + float(way[1]) * radii[1],
                    centre[2] + float(way[2]) * radii[2],
                ),
                (radii[0] * size, radii[1] * size, radii[2] * size),
                0.0,
                turn,
            )
        )
    ragged = radius * float(rng.uniform(0.02, 0.10))
    waves = []
    for _ in range(7):
        vector = rng.normal(size=3)
        vector *= 2 * np.pi / float(rng.uniform(0.7, 2.2)) / radius / np.linalg.norm(vector)
        waves.append((float(vector[0]), float(vector[1]), float(vector[2]), float(rng.uniform(0, 2 * np.pi)), ragged))
    oedema = 0.0 if rng.random() < 0.2 else float(rng.uniform(1.0, 3.0 + 0.25 * radius))
    return Bleed(
        location,
        centre,
        radius,
        tuple(lobes),
        tuple(waves),
        float(rng.uniform(*tissues.BLOOD_HU)),
        float(rng.uniform(0.5, 3.0)),
        oedema,
    )


def _radii(rng: np.random.Generator, low: float, high: float, stretch: Point) -> Point:
    radius = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    x, y, z = (radius * s * float(rng.uniform(0.85, 1.15)) for s in stretch)
    return x, y, z


def _place_deep(rng: np.random.Generator, head: Head) -> tuple[Point, Point, float]:
    side = float(rng.choice((-1.0, 1.0)))
    kind = rng.random()
    jitter = rng.normal(0, 1.5, 3)
    if kind < 0.5:
        centre, radii, turn = (26.0, 0.0, 21.0), _radii(rng, 9.5, 23.0, (0.82, 1.4, 0.82)), -14.0
    elif kind < 0.85:
        centre, radii, turn = (12.5, 11.0, 21.0), _radii(rng, 7.5, 16.0, (0.95, 1.25, 0.95)), -25.0
    else:
        centre, radii, turn = (14.0, -20.0, 27.0), _radii(rng, 5.5, 11.5, (0.85, 1.25, 1.0)), -15.0
    turn = side * (turn + float(rng.normal(0, 12)))
    return (
        (side * centre[0] + float(jitter[0]), centre[1] + 2 * float(jitter[1]), centre[2] + float(jitter[2])),
        radii,
        turn,
    )


def _place_lobar(rng: np.random.Generator, head: Head) -> tuple[Point, Point, float]:
    while True:
        radii = _radii(rng, 9.0, 24.5, (1.05, 1.25, 0.85))
        big = max(radii)
        angle = float(rng.uniform(0, 2 * np.pi))
        height = float(rng.uniform(-20, 66)) / CAVITY_RADII[2]
        ring = (1 - height**2) ** 0.5
        way = np.array([ring * np.cos(angle), ring * np.sin(angle), height]) * np.asarray(CAVITY_RADII)
        depth = float(rng.uniform(0.75, 1.0)) * big + float(rng.uniform(3.0, 8.0))
        x, y, z = np.asarray(CAVITY_CENTRE) + way * (1 - depth / np.linalg.norm(way))
        over = float(tentorium_height(np.asarray(x, np.float32), np.asarray(y, np.float32), head))
        frontal = y < -30 and z > 22
        temporal = -30 <= y < 22 and (z > 46 or (abs(x) > 40 and z > -2))
        parietal = y >= 22 and z > over + 0.7 * big + 4
        if abs(x) > 0.55 * big + 5 and (frontal or temporal or parietal):
            return (float(x), float(y), float(z)), radii, float(rng.uniform(-90, 90))


def _place_subtentorial(rng: np.random.Generator, head: Head) -> tuple[Point, Point, float]:
    side = float(rng.choice((-1.0, 1.0)))
    kind = rng.random()
    if kind < 0.62:
        centre = (side * float(rng.uniform(13, 30)), float(rng.uniform(38, 56)), float(rng.uniform(-28, -5)))
        return centre, _radii(rng, 8.0, 18.5, (1.15, 1.05, 0.85)), float(rng.uniform(-90, 90))
    if kind < 0.75:
        centre = (float(rng.normal(0, 3)), float(rng.uniform(42, 56)), float(rng.uniform(-22, 2)))
        return centre, _radii(rng, 6.0, 12.5, (0.9, 1.15, 1.0)), 0.0
    centre = (float(rng.normal(0, 3)), float(rng.uniform(15, 20)), float(rng.uniform(-15, -2)))
    return centre, _radii(rng, 5.2, 10.5, (1.2, 0.9, 1.05)), float(rng.uniform(-30, 30))


def press(canvas: Canvas, bleeding: Bleeding, cavity: Array) -> tuple[Array, Array, Array]:
    """Where the brain at each pixel lay before the haemorrhages pushed it aside: new x, y, z of the canvas."""
    x, y, z = canvas.x, canvas.y, canvas.z
    for bleed in bleeding.bleeds:
        window = canvas.window(bleed.centre, 2.6 * bleed.radius_mm)
        if window is None:
            continue
        if x is canvas.x:
            x, y, z = x.copy(), y.copy(), z.copy()
        steps = [a[window] - np.float32(c) for a, c in zip((canvas.x, canvas.y, canvas.z), bleed.centre, strict=True)]
        square = (steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2) * np.float32(1 / (1.4 * bleed.radius_mm) ** 2)
        pull = np.float32(_PRESS) * np.exp(-square) * np.clip(-cavity[window] * np.float32(1 / 12), 0, 1)
        for axis, step in zip((x, y, z), steps, strict=True):
            axis[window] -= pull * step
    return x, y, z


def bleed_distance(canvas: Canvas, head: Head, bleed: Bleed, cavity: Array) -> tuple[Window, Array] | None:
    """Signed distance to a haemorrhage, canonical mm, kept within its compartment; None off the slice."""
    reach = 2.2 * max(bleed.lobes[0].radii) + 2 * bleed.oedema_mm + 4
    window = canvas.window(bleed.centre, reach)
    if window is None:
        return None
    distance = np.full(canvas.x[window].shape, 1e3, np.float32)
    for lobe in bleed.lobes:
        other = canvas.ellipsoid_distance(lobe, window)
        blend = np.maximum(3 - np.abs(distance - other), 0)
        distance = np.minimum(distance, other) - blend * blend * np.float32(1 / 12)
    x, y, z = canvas.x[window], canvas.y[window], canvas.z[window]
    for kx, ky, kz, phase, size in bleed.waves:
        distance += np.float32(size) * np.sin(
            np.float32(kx) * x + np.float32(ky) * y + np.float32(kz) * z + np.float32(phase)
        )
    bound = cavity[window] + head.rim_mm + 1.5
    above = (z - tentorium_height(x, y, head)) * np.float32(0.85)
    if bleed.location == "subtentorial":
        bound = np.maximum(bound, above + 2.5)
    else:
        bound = np.where(y > 8 + 0.4 * np.abs(x), np.maximum(bound, 2.5 - above), bound)
        bound = np.maximum(bound, 1.5 - x * np.float32(np.sign(bleed.centre[0])))
    return window, np.maximum(distance, bound.astype(np.float32))


def blood_cover(canvas: Canvas, head: Head, bleeding: Bleeding, cavity: Array) -> Array:
    """How much of each pixel is haemorrhage, (S, R, C) float32, without the blood in the ventricles."""
    cover: Array = np.zeros_like(canvas.x)
    for bleed in bleeding.bleeds:
        region = bleed_distance(canvas, head, bleed, cavity)
        if region is not None:
            window, distance = region
            np.maximum(cover[window], np.clip(0.5 - distance / canvas.pitch_mm, 0, 1), out=cover[window])
    return cover


def visible_mm2(cover: Array, pixel_mm2: float) -> float:
    """Area of a slice that is visibly blood: `cover` is (S, R, C), averaged over the thickness."""
    return float(np.count_nonzero(cover.mean(axis=0) >= 0.68)) * pixel_mm2


def paint_bleeding(
    canvas: Canvas, head: Head, bleeding: Bleeding, cavity: Array, ventricles: Array, coarse: Array
) -> Array:
    """Paint oedema, haemorrhage and blood in the ventricles; returns the cover of blood, (S, R, C)."""
    blood: Array = np.zeros_like(canvas.x)
    for bleed in bleeding.bleeds:
        region = bleed_distance(canvas, head, bleed, cavity)
        if region is None:
            continue
        window, distance = region
        if bleed.oedema_mm:
            halo = ramp(bleed.oedema_mm, 0.0, distance + 1.2 * coarse[window]) * (canvas.hu[window] > 22)
            canvas.paint(window, halo.astype(np.float32) * np.float32(0.9), tissues.OEDEMA_HU)
        cover = np.clip(0.5 - distance / canvas.pitch_mm, 0, 1)
        canvas.paint(window, cover, bleed.hu + bleed.mottle_hu * coarse[window])
        np.maximum(blood[window], cover, out=blood[window])
    if bleeding.ventricle_level_mm is not None:
        pool = ventricles * ramp(-1, 1, canvas.y - bleeding.ventricle_level_mm)
        pool *= canvas.x * np.float32(np.sign(bleeding.bleeds[0].centre[0])) > 1
        canvas.paint((), pool, bleeding.ventricle_hu)
        np.maximum(blood, pool, out=blood)
    return blood

"""The head of one synthetic patient: shapes and sizes, drawn once per study.

Everything is in **canonical head coordinates**: millimetres of an average head, x to the patient's left, y to
the back, z to the vertex, origin at the sella. `Head.scale` turns them into this patient's millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dtvit_edge.phantom import tissues

Point = tuple[float, float, float]

CAVITY_CENTRE: Point = (0.0, 0.0, 22.0)
CAVITY_RADII: Point = (66.0, 82.0, 76.0)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; `turn_deg` rotates it about z, `softness_mm` is the width of its edge (0: one pixel)."""

    centre: Point
    radii: Point
    hu: float
    turn_deg: float = 0.0
    softness_mm: float = 0.0
    texture: str = ""


@dataclass(frozen=True)
class Tube:
    """A round cone from `start` to `end`, `start_mm` and `end_mm` its radii."""

    start: Point
    end: Point
    start_mm: float
    end_mm: float
    hu: float
    texture: str = ""


Part = Ellipsoid | Tube


@dataclass(frozen=True)
class Head:
    """One patient's head.

    scale: canonical millimetres times this are the patient's, along x, y, z.
    egg: how much wider the back is than the front; squareness: 0 is an ellipsoid; skew: plagiocephaly.
    sulcus_mm, rim_mm, fissure_mm: widths of the sulci, of the subarachnoid rim and of the great fissures.
    """

    scale: Point
    egg: float
    squareness: float
    skew: float
    skull_mm: float
    scalp_mm: float
    skin_mm: float
    rim_mm: float
    sulcus_mm: float
    sulcus_depth_mm: float
    gyrus_mm: float
    fissure_mm: float
    grey_hu: float
    white_hu: float
    csf_hu: float
    falx_hu: float
    tentorium_apex_mm: float
    midline_mm: float
    face: tuple[Part, ...]
    base: tuple[Part, ...]
    nuclei: tuple[Part, ...]
    infratentorial: tuple[Part, ...]
    ventricles: tuple[Part, ...]
    cisterns: tuple[Part, ...]
    lesions: tuple[Part, ...]
    calcifications: tuple[Part, ...]


def draw_head(rng: np.random.Generator) -> Head:
    """A head from the population: size, shape, age (atrophy), ventricles, calcifications, old lesions."""
    age = float(rng.beta(2.0, 1.6))
    size = float(rng.normal(1.0, 0.03))
    scale = tuple(float(np.clip(size * rng.normal(1.0, s), 0.88, 1.10)) for s in (0.025, 0.025, 0.02))
    ventricle = float(np.clip(0.55 + 0.9 * age**1.5 + rng.normal(0, 0.12), 0.4, 1.6))
    return Head(
        scale=(scale[0], scale[1], scale[2]),
        egg=float(rng.uniform(0.03, 0.13)),
        squareness=float(rng.uniform(0.0, 0.45)),
        skew=float(rng.normal(0, 0.03)),
        skull_mm=float(rng.uniform(5.0, 8.5)),
        scalp_mm=float(rng.uniform(4.0, 8.5)),
        skin_mm=float(rng.uniform(1.6, 2.6)),
        rim_mm=float(0.6 + 2.2 * age**2 * rng.uniform(0.5, 1.2)),
        sulcus_mm=float(0.5 + 2.2 * age**2 * rng.uniform(0.5, 1.2)),
        sulcus_depth_mm=float(rng.uniform(13, 21)),
        gyrus_mm=float(rng.uniform(3.0, 3.9)),
        fissure_mm=float(0.7 + 2.6 * age**1.5 * rng.uniform(0.6, 1.2)),
        grey_hu=tissues.GREY_HU + float(rng.normal(0, 1.0)),
        white_hu=tissues.WHITE_HU + float(rng.normal(0, 1.0)),
        csf_hu=tissues.CSF_HU + float(rng.normal(0, 1.5)),
        falx_hu=tissues.DURA_HU + float(rng.normal(0, 5.0)),
        tentorium_apex_mm=float(rng.normal(25, 1.5)),
        midline_mm=float(rng.normal(0, 0.8)),
        face=_face(rng),
        base=_base(rng),
        nuclei=_nuclei(rng),
        infratentorial=_infratentorial(rng, ventricle),
        ventricles=_ventricles(rng, ventricle),
        cisterns=_cisterns(rng, age),
        lesions=_lesions(rng, age),
        calcifications=_calcifications(rng, age),
    )


def _both(rng: np.random.Generator, part: Part, wobble_mm: float = 1.0) -> list[Part]:
    """The part and its mirror image, each moved and sized a little on its own."""
    parts: list[Part] = []
    for side in (1.0, -1.0):
        move = rng.normal(0, wobble_mm, 3)
        grow = float(np.clip(rng.normal(1.0, 0.05), 0.85, 1.15))
        if isinstance(part, Ellipsoid):
            parts.append(
                Ellipsoid(
                    _moved(part.centre, side, move),
                    _grown(part.radii, grow),
                    part.hu,
                    side * part.turn_deg,
                    part.softness_mm,
                    part.texture,
                )
            )
        else:
            parts.append(
                Tube(
                    _moved(part.start, side, move),
                    _moved(part.end, side, move),
                    part.start_mm * grow,
                    part.end_mm * grow,
                    part.hu,
                    part.texture,
                )
            )
    return parts


def _moved(point: Point, side: float, move: np.ndarray) -> Point:
    return (side * point[0] + float(move[0]), point[1] + float(move[1]), point[2] + float(move[2]))


def _grown(radii: Point, grow: float) -> Point:
    return (radii[0] * grow, radii[1] * grow, radii[2] * grow)


def _face(rng: np.random.Generator) -> tuple[Part, ...]:
    """Muscles and bones in front of and below the skull base; the skull base is painted over them."""
    muscle, bone = tissues.MUSCLE_HU, tissues.CORTICAL_BONE_HU
    parts: list[Part] = []
    parts += _both(rng, Ellipsoid((50, -30, -38), (10, 20, 34), muscle, texture="muscle"), 2)
    parts += _both(rng, Ellipsoid((32, -22, -38), (12, 14, 26), muscle, texture="muscle"), 2)
    parts += _both(rng, Ellipsoid((17, 60, -50), (15, 15, 26), muscle, texture="muscle"), 2)
    parts += _both(rng, Ellipsoid((40, 50, -55), (15, 18, 28), muscle, texture="muscle"), 2)
    parts += _both(rng, Ellipsoid((13, -2, -48), (10, 7, 22), muscle, texture="muscle"), 1)
    parts += _both(rng, Tube((46, -78, -14), (66, -48, -17), 4.5, 2.8, bone), 1)
    parts += _both(rng, Tube((66, -48, -17), (66, -14, -15), 2.8, 3.2, bone), 1)
    parts += _both(rng, Ellipsoid((53, -7, -20), (9, 4.5, 7), bone, turn_deg=-15), 1)
    parts += _both(rng, Tube((52, -8, -24), (48, -16, -75), 4.0, 5.0, bone), 1)
    parts += _both(rng, Tube((51, -34, -26), (49, -28, -75), 2.5, 5.0, bone), 1)
    parts += _both(rng, Tube((13, -40, -15), (19, -32, -55), 2.0, 1.6, tissues.BASE_BONE_HU), 1)
    for x0, y0, x1, y1 in (
        (-22, 24, -10, 12),
        (22, 24, 10, 12),
        (-10, 12, 10, 12),
        (-22, 24, -14, 48),
        (22, 24, 14, 48),
        (-14, 48, 14, 48),
    ):
        parts.append(Tube((x0, y0, -52), (x1, y1, -52), 5.0, 4.5, tissues.BASE_BONE_HU, texture="marrow"))
    parts.append(Ellipsoid((0, 18, -53), (5.5, 5, 13), tissues.BASE_BONE_HU, texture="marrow"))
    parts.append(Ellipsoid((0, -26, -42), (11, 8, 20), tissues.AIR_HU))
    parts.append(Tube((0, 32, -30), (0, 36, -90), 13.0, 11.0, tissues.CSF_HU))
    parts.append(Tube((0, 31, -30), (0, 35, -90), 6.5, 5.0, tissues.BRAINSTEM_HU))
    return tuple(parts)


def _base(rng: np.random.Generator) -> tuple[Part, ...]:
    """Skull base and what is full of air: later parts cover earlier ones."""
    bone, thin, air = tissues.BASE_BONE_HU, tissues.THIN_BONE_HU, tissues.AIR_HU
    petrous, dense = tissues.PETROUS_BONE_HU, tissues.CORTICAL_BONE_HU
    sinus = float(rng.uniform(0.75, 1.15))
    parts: list[Part] = []
    parts += _both(rng, Tube((14, 6, -7), (50, 24, -8), 7.0, 11.0, petrous, texture="marrow"), 0.8)
    parts += _both(rng, Ellipsoid((54, 26, -20), (12, 17, 22), bone, texture="cells"), 1)
    parts.append(Ellipsoid((0, 6, -14), (13, 7, 17), bone, texture="marrow"))
    parts.append(Ellipsoid((0, -20, -10), (15, 17, 9), bone, texture="marrow"))
    parts.append(Ellipsoid((0, -9, -1), (13, 8, 5), tissues.GREY_HU + 3))
    parts.append(Ellipsoid((0, 5, 3), (9, 2.2, 6), dense))
    parts += _both(rng, Tube((10, -20, 6), (24, -28, 10), 2.2, 2.5, dense), 0.5)
    parts += _both(rng, Tube((24, -30, 9), (50, -34, 17), 2.5, 4.5, bone), 0.8)
    parts.append(Ellipsoid((0, -27, -10), (15 * sinus, 13 * sinus, 8 * sinus), air, texture="septa"))
    parts.append(Ellipsoid((0, -66, -20), (15, 28, 36), thin))
    parts.append(Ellipsoid((0, -62, 0), (12.5, 25, 13), air, texture="septa"))
    parts.append(Ellipsoid((0, -68, -36), (13.5, 27, 24), air, texture="turbinates"))
    parts.append(Ellipsoid((0, -80, -30), (0.9, 24, 24), thin))
    parts += _both(rng, Ellipsoid((27, -64, -36), (17.5, 20, 20), thin), 0.5)
    parts += _both(rng, Ellipsoid((27, -64, -36), (15.5, 18, 18), air), 0.5)
    parts += _both(rng, Ellipsoid((31, -67, 2), (19.6, 27, 17.6), bone, turn_deg=-18), 0.3)
    parts += _both(rng, Ellipsoid((31, -73, 2), (18.5, 29, 16.5), tissues.ORBITAL_FAT_HU, turn_deg=-18), 0.3)
    for dx, dz in ((9, 0), (-9, 0), (0, 8), (0, -8)):
        parts += _both(rng, Tube((17, -48, 3), (31 + dx, -80, 2 + dz), 1.8, 2.2, tissues.MUSCLE_HU), 0.3)
    parts += _both(rng, Tube((14, -44, 4), (31, -76, 2), 2.2, 2.2, tissues.GREY_HU), 0.3)
    globe = float(rng.uniform(11.2, 12.8))
    lens = [float(v) for v in rng.normal(0, 0.7, 2)]
    for side in (1.0, -1.0):
        centre = (side * 32.0, -86.0, 2.0)
        parts.append(Ellipsoid(centre, (globe, globe, globe), tissues.SCLERA_HU, texture="eye"))
        parts.append(Ellipsoid(centre, (globe - 1.6, globe - 1.6, globe - 1.6), tissues.VITREOUS_HU, texture="eye"))
        parts.append(
            Ellipsoid(
                (centre[0] + lens[0], centre[1] - globe + 3.5, 2.0 + lens[1]),
                (4.6, 2.0, 4.6),
                tissues.LENS_HU,
                texture="eye",
            )
        )
    frontal = float(rng.uniform(0.3, 1.5))
    if frontal > 0.5:
        parts += _both(rng, Ellipsoid((7 * frontal, -83, 18), (10 * frontal, 6.0, 11 * frontal), dense), 0.8)
        parts += _both(rng, Ellipsoid((7 * frontal, -83.5, 18), (8.5 * frontal, 3.6, 9 * frontal), air), 0.8)
    parts += _both(rng, Tube((46, 10, -13), (82, 6, -15), 2.6, 4.0, air), 0.5)
    return tuple(parts)


def _nuclei(rng: np.random.Generator) -> tuple[Part, ...]:
    grey, white = tissues.GREY_HU, tissues.WHITE_HU
    parts: list[Part] = []
    parts += _both(rng, Ellipsoid((26, -2, 20), (8, 21, 14), grey, turn_deg=-14, softness_mm=3.5), 1)
    parts += _both(rng, Ellipsoid((18, -2, 19), (4, 12, 9), grey - 1.5, turn_deg=-25, softness_mm=3.5), 1)
    parts += _both(rng, Ellipsoid((13, -23, 27), (6, 10, 12), grey, turn_deg=-15, softness_mm=2.5), 1)
    parts += _both(rng, Ellipsoid((11, 12, 22), (9.5, 15, 10), grey - 0.5, turn_deg=-22, softness_mm=3.5), 1)
    parts += _both(rng, Tube((18, -16, 21), (17, -2, 20), 1.6, 1.6, white), 0.4)
    parts += _both(rng, Tube((17, -2, 20), (23, 16, 21), 1.6, 2.2, white), 0.4)
    return tuple(parts)


def _infratentorial(rng: np.random.Generator, ventricle: float) -> tuple[Part, ...]:
    stem, csf = tissues.BRAINSTEM_HU, tissues.CSF_HU
    gap = float(rng.uniform(1.0, 4.0))
    parts: list[Part] = [
        Ellipsoid((0, 8, -6), (15 + gap, 6 + gap, 17), csf, softness_mm=1.5),
        Tube((0, 22, -24), (0, 30, -46), 11.0 + gap, 10.0 + gap, csf),
        Ellipsoid((0, 17, 5), (14, 10.5, 10.5), stem, softness_mm=1.5),
        Ellipsoid((0, 18, -12), (16, 12.5, 14), stem, softness_mm=1.5),
        Tube((0, 24, -20), (0, 31, -48), 8.0, 6.5, stem),
    ]
    parts += _both(rng, Tube((10, 22, -12), (22, 38, -14), 6.0, 6.0, tissues.WHITE_HU + 2), 0.5)
    fourth = 0.75 + 0.35 * ventricle
    parts.append(Ellipsoid((0, 33, -10), (6.5 * fourth, 4.2 * fourth, 10), csf, softness_mm=1.2))
    magna = float(rng.uniform(0.5, 1.5))
    parts.append(Ellipsoid((0, 57, -36), (9 * magna, 7 * magna, 9 * magna), csf, softness_mm=2.0))
    return tuple(parts)


def _ventricles(rng: np.random.Generator, size: float) -> tuple[Part, ...]:
    csf = tissues.CSF_HU
    parts: list[Part] = []
    spread = 3.0 * (size - 0.7)
    left = float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.2))
    for side, grow in ((1.0, left * size), (-1.0, size / left)):

        def tube(a: Point, b: Point, ra: float, rb: float, side: float = side, grow: float = grow) -> None:
            parts.append(
                Tube(
                    (side * (a[0] + spread), a[1], a[2]),
                    (side * (b[0] + spread), b[1], b[2]),
                    ra * grow,
                    rb * grow,
                    csf,
                )
            )

        tube((13, -37, 24), (6.5, -22, 29), 2.6, 3.6)
        tube((15, -34, 29), (7, -18, 33), 2.4, 3.8)
        tube((7, -22, 31), (7.5, 0, 37), 4.0, 4.2)
        tube((7.5, 0, 37), (14, 24, 37), 4.2, 4.6)
        tube((14, 24, 37), (22, 38, 26), 4.8, 5.2)
        tube((22, 38, 26), (21, 56, 22), 4.4, 1.8)
        tube((24, 38, 23), (31, 20, 8), 3.6, 2.0)
        tube((31, 20, 8), (29, -8, 0), 1.6, 1.6)
    third = float(np.clip(3.2 * size * rng.normal(1.0, 0.12), 1.2, 6.0))
    parts.append(Ellipsoid((0, 3, 16), (third, 12, 11), csf))
    parts.append(Tube((0, 20, 8), (0, 29, -4), 1.0, 1.6, csf))
    return tuple(parts)


def _cisterns(rng: np.random.Generator, age: float) -> tuple[Part, ...]:
    csf = tissues.CSF_HU
    wide = float(0.7 + 0.7 * age * rng.uniform(0.7, 1.2))
    parts: list[Part] = [
        Ellipsoid((0, -9, 6), (9 * wide, 8 * wide, 8), csf, softness_mm=1.5),
        Tube((0, -9, 8), (0, -28, 14), 4.0 * wide, 1.5 * wide, csf),
        Ellipsoid((0, 32, 15), (6, 2.6 * wide, 6), csf, softness_mm=1.5),
    ]
    for side in (1.0, -1.0):
        parts.append(Tube((side * 3, -8, 7), (side * 20, -13, 9), 2.8 * wide, 1.6 * wide, csf))
        parts.append(Tube((side * 20, -13, 9), (side * 36, -12, 13), 1.6 * wide, 2.0 * wide, csf))
        ring = [
            (side * 11, 4, 7),
            (side * 16.5, 13, 9),
            (side * 16, 22, 12),
            (side * 9, 30, 15),
            (side * 3, 32, 16),
        ]
        for a, b in pairwise(ring):
            parts.append(Tube(a, b, 1.5 * wide, 1.5 * wide, csf))
    return tuple(parts)


def _lesions(rng: np.random.Generator, age: float) -> tuple[Part, ...]:
    """Old damage, dark: leukoaraiosis, lacunes, a scar. A negative slice is not an empty one."""
    parts: list[Part] = []
    if rng.random() < 0.2 + 0.6 * age:
        hu = tissues.WHITE_HU - float(rng.uniform(2.0, 7.0))
        parts += _both(rng, Ellipsoid((18, -38, 31), (9, 9, 9), hu, softness_mm=9.0), 1.5)
        parts += _both(rng, Ellipsoid((24, 44, 32), (8, 12, 10), hu, softness_mm=9.0), 1.5)
        parts += _both(rng, Ellipsoid((20, 4, 45), (6, 28, 5), hu, softness_mm=8.0), 1.5)
    for _ in range(int(rng.poisson(0.8 * age))):
        side = float(rng.choice((-1.0, 1.0)))
        centre = (side * float(rng.uniform(12, 30)), float(rng.uniform(-22, 18)), float(rng.uniform(14, 34)))
        radius = float(rng.uniform(1.5, 4.0))
        parts.append(Ellipsoid(centre, (radius, radius * 1.3, radius), tissues.SCAR_HU, softness_mm=1.5))
    if rng.random() < 0.08 + 0.1 * age:
        side = float(rng.choice((-1.0, 1.0)))
        centre = (side * float(rng.uniform(38, 56)), float(rng.uniform(-30, 55)), float(rng.uniform(12, 60)))
        radii = (float(rng.uniform(8, 16)), float(rng.uniform(9, 20)), float(rng.uniform(8, 16)))
        parts.append(Ellipsoid(centre, radii, tissues.SCAR_HU, float(rng.uniform(-40, 40)), 5.0, "ragged"))
    return tuple(parts)


def _calcifications(rng: np.random.Generator, age: float) -> tuple[Part, ...]:
    """Physiological calcium: small and dense, the bright spots that are not blood."""
    parts: list[Part] = []
    if rng.random() < 0.7:
        r = float(rng.uniform(1.2, 2.8))
        parts.append(Ellipsoid((0, 29, 18), (r, r, r), float(rng.uniform(110, 500))))
    if rng.random() < 0.6:
        hu = float(rng.uniform(100, 450))
        r = float(rng.uniform(1.2, 3.0))
        parts += _both(rng, Ellipsoid((23, 37, 26), (r, r * 1.5, r * 1.2), hu), 1.0)
    for _ in range(int(rng.poisson(0.6 + 0.6 * age))):
        y = float(rng.choice((-1.0, 1.0))) * float(rng.uniform(45, 68))
        parts.append(
            Ellipsoid(
                (0, y, float(rng.uniform(45, 75))),
                (float(rng.uniform(0.8, 1.8)), float(rng.uniform(2, 6)), float(rng.uniform(2, 5))),
                float(rng.uniform(100, 500)),
            )
        )
    if rng.random() < 0.25 * age:
        r = float(rng.uniform(1.2, 2.4))
        parts += _both(rng, Ellipsoid((18, -3, 18), (r, r * 1.5, r), float(rng.uniform(60, 140))), 0.8)
    if rng.random() < 0.4 * age:
        parts += _both(rng, Ellipsoid((9, 2, 3), (1.3, 2.2, 1.5), float(rng.uniform(90, 300))), 0.8)
    return tuple(parts)

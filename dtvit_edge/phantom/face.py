"""Muscles, bones and air of the face and of the skull base, drawn once per study."""

from __future__ import annotations

import numpy as np

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.parts import Ellipsoid, Part, Tube, both


def draw_face(rng: np.random.Generator) -> tuple[Part, ...]:
    """Muscles and bones in front of and below the skull base; the skull base is painted over them."""
    muscle, bone = tissues.MUSCLE_HU, tissues.CORTICAL_BONE_HU
    parts: list[Part] = []
    parts += both(rng, Ellipsoid((50, -30, -38), (10, 20, 34), muscle, texture="muscle"), 2)
    parts += both(rng, Ellipsoid((32, -22, -38), (12, 14, 26), muscle, texture="muscle"), 2)
    parts += both(rng, Ellipsoid((18, 62, -48), (17, 16, 30), muscle, texture="muscle"), 2)
    parts += both(rng, Ellipsoid((40, 50, -55), (15, 18, 28), muscle, texture="muscle"), 2)
    parts += both(rng, Ellipsoid((21, 75, -50), (19, 5, 34), muscle, turn_deg=18), 1)
    parts += both(rng, Ellipsoid((52, 34, -52), (9, 17, 28), muscle, turn_deg=20), 1.5)
    parts += both(rng, Ellipsoid((13, -2, -48), (10, 7, 22), muscle, texture="muscle"), 1)
    parts += both(rng, Tube((46, -78, -14), (66, -48, -17), 4.5, 2.8, bone), 1)
    parts += both(rng, Tube((66, -48, -17), (66, -14, -15), 2.8, 3.2, bone), 1)
    parts += both(rng, Ellipsoid((53, -7, -20), (9, 4.5, 7), bone, turn_deg=-15), 1)
    parts += both(rng, Ellipsoid((51, -16, -54), (3.4, 12, 29), bone, turn_deg=8), 1)
    parts += both(rng, Tube((51, -32, -26), (50, -26, -50), 1.6, 2.6, bone), 1)
    parts += both(rng, Tube((13, -40, -15), (19, -32, -55), 2.0, 1.6, tissues.BASE_BONE_HU), 1)
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


def draw_base(rng: np.random.Generator) -> tuple[Part, ...]:
    """Skull base and what is full of air: later parts cover earlier ones."""
    bone, thin, air = tissues.BASE_BONE_HU, tissues.THIN_BONE_HU, tissues.AIR_HU
    petrous, dense = tissues.PETROUS_BONE_HU, tissues.CORTICAL_BONE_HU
    sinus = float(rng.uniform(0.75, 1.15))
    parts: list[Part] = []
    parts += both(rng, Tube((14, 7, -9), (50, 25, -9), 7.0, 11.0, petrous, texture="marrow"), 0.5)
    parts += both(rng, Ellipsoid((54, 26, -20), (12, 17, 22), bone, texture="cells"), 1)
    parts += both(rng, Tube((58, 29, 4), (48, 37, -36), 8.5, 8.5, bone, texture="marrow"), 0.8)
    parts += both(rng, Tube((14, 10, -22), (42, 27, -24), 5.5, 6.5, bone, texture="marrow"), 0.8)
    parts.append(Ellipsoid((0, 6, -14), (13, 7, 17), bone, texture="marrow"))
    parts.append(Ellipsoid((0, -20, -10), (15, 17, 9), bone, texture="marrow"))
    parts.append(Ellipsoid((0, -9, -1), (13, 8, 5), tissues.GREY_HU + 3))
    parts.append(Ellipsoid((0, 5, 3), (9, 2.2, 6), dense))
    parts += both(rng, Tube((10, -20, 6), (24, -28, 10), 2.2, 2.5, dense), 0.5)
    parts += both(rng, Tube((24, -30, 9), (50, -34, 17), 2.5, 4.5, bone), 0.8)
    parts.append(Ellipsoid((0, -27, -10), (15 * sinus, 13 * sinus, 8 * sinus), air, texture="septa"))
    parts += both(rng, Tube((48, -74, -16), (50, -69, 14), 3.6, 4.6, bone), 0.8)
    parts += both(rng, Tube((47, -76, -16), (24, -90, -20), 3.4, 2.0, bone), 0.8)
    for outer_mm, hu, texture in ((0.8, 420.0, "lamina"), (0.0, air, "")):
        wide, deep = 14.5 + outer_mm, 13.5 + outer_mm
        for side in (1.0, -1.0):
            parts.append(Ellipsoid((side * 29, -69, -34), (wide, deep, 16 + outer_mm), hu, side * 25, texture=texture))
            parts.append(
                Ellipsoid((side * 25, -57, -36), (10 + outer_mm, 13 + outer_mm, 14 + outer_mm), hu, texture=texture)
            )
    parts.append(Ellipsoid((0, -64, -20), (13.6, 25, 35), thin, texture="lamina"))
    parts.append(Ellipsoid((0, -62, -1), (12.8, 23, 16), air, texture="septa"))
    parts.append(Ellipsoid((0, -68, -34), (12.9, 29, 27), air))
    parts += _nose(rng)
    parts += both(rng, Ellipsoid((31, -67, 2), (19.2, 27, 17.3), 420.0, turn_deg=-18, texture="lamina"), 0.3)
    parts += both(rng, Ellipsoid((31, -73, 2), (18.5, 29, 16.5), tissues.ORBITAL_FAT_HU, turn_deg=-18), 0.3)
    for dx, dz in ((9, 0), (-9, 0), (0, 8), (0, -8)):
        parts += both(rng, Tube((17, -46, 3), (31 + dx, -76, 2 + dz), 1.8, 2.2, tissues.MUSCLE_HU), 0.3)
    parts += both(rng, Tube((14, -42, 4), (31, -71, 2), 2.2, 2.2, tissues.GREY_HU), 0.3)
    globe = float(rng.uniform(11.2, 12.8))
    lens = [float(v) for v in rng.normal(0, 0.7, 2)]
    for side in (1.0, -1.0):
        centre = (side * 31.5, -80.0, 2.0)
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
        parts += both(rng, Ellipsoid((7 * frontal, -83, 18), (10 * frontal, 6.0, 11 * frontal), dense), 0.8)
        parts += both(rng, Ellipsoid((7 * frontal, -83.5, 18), (8.5 * frontal, 3.6, 9 * frontal), air), 0.8)
    parts += both(rng, Ellipsoid((47, 12, -11), (4, 5, 6), air, texture="cells"), 0.8)
    parts += both(rng, Tube((48, 10, -13), (82, 6, -15), 2.2, 3.6, air), 0.5)
    return tuple(parts)


def _nose(rng: np.random.Generator) -> list[Part]:
    """Septum, turbinates and nasal bones, within the nasal cavity's air."""
    mucosa, thin = tissues.MUCOSA_HU, tissues.THIN_BONE_HU
    lean = float(rng.normal(0, 1.2))
    parts: list[Part] = []
    for y, x in ((-54.0, 0.3 * lean), (-74.0, lean), (-92.0, 0.4 * lean)):
        parts.append(Ellipsoid((x, y, -30), (1.9, 13, 27), mucosa))
    for y, x in ((-54.0, 0.3 * lean), (-76.0, lean)):
        parts.append(Ellipsoid((x, y, -28), (0.6, 14, 24), thin))
    parts += both(rng, Ellipsoid((8.0, -64, -43), (3.0, 22, 7), mucosa), 0.8)
    parts += both(rng, Ellipsoid((8.2, -64, -42), (0.6, 17, 4), 400.0), 0.6)
    parts += both(rng, Ellipsoid((6.0, -62, -27), (2.1, 19, 8), mucosa), 0.8)
    parts += both(rng, Ellipsoid((5.6, -62, -24), (0.6, 14, 6), 400.0), 0.6)
    parts += both(rng, Tube((6.5, -97, -20), (7.5, -90, 2), 1.3, 2.2, tissues.BASE_BONE_HU), 0.4)
    parts += both(rng, Tube((6.0, -89, 2), (5.0, -85, 13), 2.2, 3.2, tissues.BASE_BONE_HU), 0.4)
    return parts

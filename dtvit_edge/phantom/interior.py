"""What lies in the brain: nuclei, brainstem, ventricles, cisterns, old lesions and calcium, drawn once per study."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.parts import Ellipsoid, Part, Point, Tube, both


def draw_nuclei(rng: np.random.Generator) -> tuple[Part, ...]:
    """Basal ganglia, thalami and the internal capsule between them."""
    grey, white = tissues.GREY_HU, tissues.WHITE_HU
    parts: list[Part] = []
    parts += both(rng, Ellipsoid((26, -2, 20), (8, 21, 14), grey, turn_deg=-14, softness_mm=3.5), 1)
    parts += both(rng, Ellipsoid((18, -2, 19), (4, 12, 9), grey - 1.5, turn_deg=-25, softness_mm=3.5), 1)
    parts += both(rng, Ellipsoid((13, -23, 27), (6, 10, 12), grey, turn_deg=-15, softness_mm=2.5), 1)
    parts += both(rng, Ellipsoid((11, 12, 22), (9.5, 15, 10), grey - 0.5, turn_deg=-22, softness_mm=3.5), 1)
    parts += both(rng, Tube((18, -16, 21), (17, -2, 20), 1.6, 1.6, white), 0.4)
    parts += both(rng, Tube((17, -2, 20), (23, 16, 21), 1.6, 2.2, white), 0.4)
    return tuple(parts)


def draw_infratentorial(rng: np.random.Generator, ventricle: float) -> tuple[Part, ...]:
    """Brainstem, peduncles, fourth ventricle and the cisterns beside them."""
    stem, csf = tissues.BRAINSTEM_HU, tissues.CSF_HU
    gap = float(rng.uniform(1.0, 4.0))
    parts: list[Part] = [
        Ellipsoid((0, 8, -6), (15 + gap, 6 + gap, 17), csf, softness_mm=1.5),
        Tube((0, 22, -24), (0, 30, -46), 11.0 + gap, 10.0 + gap, csf),
        Ellipsoid((0, 16.5, 6), (15, 11, 14), stem, softness_mm=1.5),
        Ellipsoid((0, 18, -12), (16, 12.5, 14), stem, softness_mm=1.5),
        Tube((0, 24, -20), (0, 31, -48), 8.0, 6.5, stem),
    ]
    parts += both(rng, Tube((10, 22, -12), (22, 38, -14), 6.0, 6.0, tissues.WHITE_HU + 2), 0.5)
    fourth = 0.75 + 0.35 * ventricle
    parts.append(Ellipsoid((0, 33, -10), (8.0 * fourth, 4.4 * fourth, 9), csf, softness_mm=1.2))
    parts.append(Tube((0, 33, -10), (0, 39, -9), 4.0 * fourth, 1.6, csf))
    parts.append(Tube((0, 30, -2), (0, 35, -18), 2.4 * fourth, 2.0 * fourth, csf))
    magna = float(rng.uniform(0.5, 1.5))
    parts.append(Ellipsoid((0, 57, -36), (9 * magna, 7 * magna, 9 * magna), csf, softness_mm=2.0))
    return tuple(parts)


def draw_ventricles(rng: np.random.Generator, size: float) -> tuple[Part, ...]:
    """Lateral and third ventricles and the aqueduct, `size` about 0.4 to 1.6."""
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


def draw_cisterns(rng: np.random.Generator, age: float) -> tuple[Part, ...]:
    """The suprasellar cistern's star and the cisterns around the midbrain."""
    csf = tissues.CSF_HU
    wide = float(0.7 + 0.7 * age * rng.uniform(0.7, 1.2))
    parts: list[Part] = [
        Ellipsoid((0, -8, 6), (6.5 * wide, 6 * wide, 8), csf, softness_mm=1.5),
        Tube((0, -9, 7), (0, -26, 12), 3.6 * wide, 1.4 * wide, csf),
        Tube((0, -3, 5), (0, 6, 4), 3.4 * wide, 2.2 * wide, csf),
        Ellipsoid((0, 31, 15), (5, 2.2 * wide, 5), csf, softness_mm=1.5),
    ]
    for side in (1.0, -1.0):
        parts.append(Tube((side * 3, -9, 6), (side * 20, -15, 9), 3.2 * wide, 1.6 * wide, csf))
        parts.append(Tube((side * 3, -5, 6), (side * 13, 4, 7), 2.8 * wide, 1.6 * wide, csf))
        parts.append(Tube((side * 20, -15, 9), (side * 36, -12, 13), 1.6 * wide, 2.0 * wide, csf))
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


def draw_lesions(rng: np.random.Generator, age: float) -> tuple[Part, ...]:
    """Old damage, dark: leukoaraiosis, lacunes, a scar. A negative slice is not an empty one."""
    parts: list[Part] = []
    if rng.random() < 0.2 + 0.6 * age:
        hu = tissues.WHITE_HU - float(rng.uniform(2.0, 7.0))
        parts += both(rng, Ellipsoid((18, -38, 31), (9, 9, 9), hu, softness_mm=9.0), 1.5)
        parts += both(rng, Ellipsoid((24, 44, 32), (8, 12, 10), hu, softness_mm=9.0), 1.5)
        parts += both(rng, Ellipsoid((20, 4, 45), (6, 28, 5), hu, softness_mm=8.0), 1.5)
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


def draw_calcifications(rng: np.random.Generator, age: float) -> tuple[Part, ...]:
    """Physiological calcium: small and dense, the bright spots that are not blood."""
    parts: list[Part] = []
    if rng.random() < 0.7:
        r = float(rng.uniform(1.2, 2.8))
        parts.append(Ellipsoid((0, 29, 18), (r, r, r), float(rng.uniform(110, 500))))
    if rng.random() < 0.6:
        hu = float(rng.uniform(100, 450))
        r = float(rng.uniform(1.2, 3.0))
        parts += both(rng, Ellipsoid((23, 37, 26), (r, r * 1.5, r * 1.2), hu), 1.0)
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
        parts += both(rng, Ellipsoid((18, -3, 18), (r, r * 1.5, r), float(rng.uniform(60, 140))), 0.8)
    if rng.random() < 0.4 * age:
        parts += both(rng, Ellipsoid((9, 2, 3), (1.3, 2.2, 1.5), float(rng.uniform(90, 300))), 0.8)
    return tuple(parts)
